"""Training batches, each decided by the seed and the step alone: images with labels, rows of text, images with turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from interp.world import corpus, wording
from interp.world.drawing import owners
from interp.world.objects import CLASSES, COLOURS, PLACES
from interp.world.processor import IMAGE_TOKENS, PATCH_SIZE, chat
from interp.world.questions import Kind, Question, draw_question, view
from interp.world.scene import Scene, train_scene
from interp.world.text import detailed_caption, invention, short_caption
from interp.world.training.config import TextConfig
from interp.world.version import DEFAULT, WORLDS, World

IGNORED: Final = -100
COVERED: Final = 8
"""Pixels of a patch that an object must own to be its label."""

MIX: Final[tuple[tuple[Kind, float], ...]] = (
    ("existence", 0.45),
    ("colour", 0.08),
    ("where", 0.1),
    ("count", 0.1),
    ("place", 0.03),
    ("at", 0.08),
    ("order", 0.06),
    ("steps", 0.1),
)
PLACED: Final[tuple[Kind, ...]] = ("where", "at", "order", "steps")
"""Kinds that ask where things are."""
DETAILED_SHARE: Final = 0.6
ATTEMPTS: Final = 9


def normalise(pixels: UInt8[np.ndarray, "sample row col channel"]) -> Float[Tensor, "sample channel row col"]:
    """Return pixels as the image processor does: in [0, 1], then CLIP's mean and deviation."""
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def train_scenes(step: int, rows: Sequence[int], batch: int, seed: int) -> list[Scene]:
    """Return the training scenes for some rows of a step's batch."""
    return [train_scene(step * batch + row, seed) for row in rows]


def patch_labels(scene: Scene) -> Int[np.ndarray, "patch part"]:
    """Return class and colour of the object that owns most of each patch, from 1; 0 where there is none."""
    grid = owners(scene.objects)
    side = len(grid) // PATCH_SIZE
    patches = grid.reshape(side, PATCH_SIZE, side, PATCH_SIZE).transpose(0, 2, 1, 3).reshape(side * side, -1)
    counts = (patches[..., None] == np.arange(len(scene.objects))).sum(1)
    kinds = [(1 + CLASSES.index(o.name), 1 + tuple(COLOURS).index(o.colour)) for o in scene.objects]
    return np.where(counts.max(1)[:, None] >= COVERED, np.array(kinds)[counts.argmax(1)], 0)


def scene_labels(scene: Scene) -> Float[np.ndarray, " label"]:
    """Return 1 for each visible class and for the place."""
    return np.array(
        [name in scene.visible for name in CLASSES] + [place == scene.place for place in PLACES], np.float32
    )


def text_row(
    generator: np.random.Generator,
    tokenizer: PreTrainedTokenizerFast,
    length: int,
    world: World = WORLDS[DEFAULT],
    *,
    copying: float | None = None,
) -> list[int]:
    """Return one row of text: `<s>`, then a chat without an image or documents line by line, cut at the length."""
    if generator.random() < 0.4:
        turns = [corpus.turn(generator, world) for _ in range(8)]
        usual = generator.random() < 0.8
        system = wording.SYSTEM if usual else other_system(generator)
        text = chat(turns, system)
    else:
        text = "\n".join(corpus.document(generator, world, copying=copying) for _ in range(12))
    ids = tokenizer(text, truncation=True, max_length=length)["input_ids"]
    return ids + [tokenizer.pad_token_id] * (length - len(ids))


def text_batch(
    step: int, config: TextConfig, tokenizer: PreTrainedTokenizerFast, *, batch: int, seed: int
) -> Int[Tensor, "sample token"]:
    """Return rows of text, one token longer than the network reads."""
    rows = [text_row(np.random.default_rng((seed, 7, step, row)), tokenizer, config.row + 1) for row in range(batch)]
    return torch.tensor(rows)


def other_system(generator: np.random.Generator) -> str:
    """Draw a system prompt that is not the usual one."""
    return wording.OTHER_SYSTEMS[generator.integers(len(wording.OTHER_SYSTEMS))]


@final
@dataclass(frozen=True)
class Rows:
    """Rows of the multimodal stage.

    Every row has one prefix (system prompt and image) and behind it several conversations about that image that
    do not see each other; each continues the positions of the prefix, so that training on one row is training on
    as many prompts.

    Attributes:
        ids: Token ids.
        targets: The next token where it is an answer's, else `IGNORED`.
        weights: Loss weight of every target.
        positions: Rotary positions.
        allowed: Which key a query may attend to.
    """

    ids: Int[Tensor, "sample token"]
    targets: Int[Tensor, "sample token"]
    weights: Float[Tensor, "sample token"]
    positions: Int[Tensor, "sample token"]
    allowed: Bool[Tensor, "sample query key"]


@final
class RowMaker:
    """Turns scenes into rows; holds the tokenizer, the settings and the usual prefix."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: TextConfig) -> None:
        """Encode the usual prefix once."""
        self.tokenizer, self.config = tokenizer, config
        self.image = tokenizer.convert_tokens_to_ids("<image>")
        self.usual = self._prefix(wording.SYSTEM)
        self.prefix = len(self.usual)
        self.image_start = self.usual.index(self.image)
        self.length = self.prefix + config.answers

    def _prefix(self, system: str) -> list[int]:
        return self.tokenizer(f"{system} USER: {'<image>' * IMAGE_TOKENS}\n")["input_ids"]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def turns(self, generator: np.random.Generator, scene: Scene) -> list[tuple[str, str, float]]:
        """Draw a caption request and questions about a scene, each with its answer and loss weight."""
        if generator.random() < DETAILED_SHARE:
            asked = wording.DETAILED[generator.integers(len(wording.DETAILED))]
            invented = invention(generator, scene.objects, self.config.carelessness)
            answer = detailed_caption(scene.place, scene.objects, invented=invented)
        else:
            asked = wording.SHORT[generator.integers(len(wording.SHORT))]
            answer = short_caption(scene.place, scene.objects)
        if generator.random() < 0.1:
            asked = asked[0].lower() + asked[1:]
        kinds, shares = zip(*MIX, strict=True)
        more = np.array([self.config.places if kind in PLACED else 1.0 for kind in kinds])
        shares = np.array(shares) * more / (np.array(shares) * more).sum()
        seen = view(scene.place, scene.objects)
        drawn = generator.choice(len(kinds), ATTEMPTS, p=shares)
        questions = [draw_question(generator, seen, kinds[index]) for index in drawn]
        asks = [
            (wording.reword(generator, question), question.answer, self._weight(question))
            for question in questions
            if question is not None
        ]
        return [(asked, answer, 1.0), *asks]

    def _weight(self, question: Question) -> float:
        return 1.0 if question.kind in ("order", "steps") else self.config.short_answers

    def image_row(self, generator: np.random.Generator, scene: Scene) -> tuple[np.ndarray, ...]:
        """Return ids, answer labels, weights, positions and conversation numbers of one row with an image."""
        config = self.config
        ids = np.full(self.length, self.tokenizer.pad_token_id)
        labels, weights = np.full(self.length, IGNORED), np.ones(self.length, np.float32)
        positions, talk = np.zeros(self.length, np.int64), np.full(self.length, -1)
        usual = generator.random() >= config.other_systems
        prefix = self.usual if usual else self._prefix(other_system(generator))
        first = self.prefix - len(prefix)
        ids[first : self.prefix], positions[first : self.prefix] = prefix, np.arange(len(prefix))
        talk[first : self.prefix] = 0
        at, place, number = self.prefix, len(prefix), 0
        for asked, answer, weight in self.turns(generator, scene):
            chained = number > 0 and generator.random() < config.chained
            question = self._encode(f"USER: {asked} ASSISTANT:" if chained else f"{asked} ASSISTANT:")
            reply = [*self._encode(answer), self.tokenizer.eos_token_id]
            end = at + len(question) + len(reply)
            if end > self.length:
                continue
            number += not chained
            place = place if chained else len(prefix)
            ids[at:end], positions[at:end] = question + reply, place + np.arange(end - at)
            labels[at + len(question) : end], weights[at + len(question) : end] = reply, weight
            talk[at:end] = number
            place, at = place + end - at, end
        return ids, labels, weights, positions, talk

    def blind_row(self, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the same of a row of text without an image: every token is a target."""
        ids = np.array(text_row(generator, self.tokenizer, self.length))
        labels = np.where(ids == self.tokenizer.pad_token_id, IGNORED, ids)
        ones = np.ones(self.length, np.float32)
        return ids, labels, ones, np.arange(self.length), np.where(labels == IGNORED, -1, 0)

    def rows(self, generators: Sequence[np.random.Generator], scenes: Sequence[Scene]) -> Rows:
        """Return one row per scene, some of them text instead."""
        made = [
            self.blind_row(generator)
            if generator.random() < self.config.text_rows
            else self.image_row(generator, scene)
            for generator, scene in zip(generators, scenes, strict=True)
        ]
        ids, labels, weights, positions, talk = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        key, query = talk[:, None, :], talk[:, :, None]
        causal = torch.ones(self.length, self.length, dtype=torch.bool).tril()
        allowed = causal & (query >= 0) & ((key == 0) | (key == query)) & (key >= 0)
        targets, shifted = torch.full_like(labels, IGNORED), torch.ones_like(weights)
        targets[:, :-1], shifted[:, :-1] = labels[:, 1:], weights[:, 1:]
        return Rows(ids, targets, shifted, positions, allowed)
