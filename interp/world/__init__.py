"""A small drawn world with exact ground truth, and the vision-language model trained on it."""

from interp.world.objects import CLASSES, COLOURS, PARTNERS, PLACES, Object
from interp.world.questions import Question
from interp.world.scene import SPLITS, Counter, Scene, Split, scenes
from interp.world.text import Mention, mentions

__all__ = [
    "CLASSES",
    "COLOURS",
    "PARTNERS",
    "PLACES",
    "SPLITS",
    "Counter",
    "Mention",
    "Object",
    "Question",
    "Scene",
    "Split",
    "mentions",
    "scenes",
]
