"""A question asked under several changes, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from interp.data.prompt import Prompt
from interp.interventions.method import resolve
from interp.models.model import Model
from interp.report.labels import labels
from interp.report.reading import AS_IT_IS, Forced, Reading, Variant, forced, read
from interp.world import Scene


@final
@dataclass(frozen=True, eq=False)
class Comparison:
    """One question under several changes.

    Args:
        model: the model in words.
        prompt: the question.
        image: the name of its image.
        readings: one a change; the first is the model as it is.
        forced: the first reply under each of the changes, teacher-forced.
        labels: of every token of every reply.
        truth: what the image shows, in words; empty where that is not known.
    """

    model: str
    prompt: Prompt = field(repr=False)
    image: str
    readings: tuple[Reading, ...]
    forced: tuple[Forced, ...] = field(repr=False)
    labels: tuple[tuple[str, ...], ...] = field(repr=False)
    truth: str = ""


def compare(
    model: Model,
    prompt: Prompt,
    variants: Sequence[Variant] = (),
    *,
    image: str = "",
    scene: Scene | None = None,
    response: str | None = None,
    longest: int = 128,
) -> Comparison:
    """Return what a model says to a question as it is and under changes, and what one pass over each reply shows.

    Args:
        model: the model.
        prompt: the question.
        variants: the changes.
        image: the name of the image.
        scene: what the image shows, where that is known: its truth labels the tokens.
        response: a reply to look at instead of the one that the model as it is gives.
        longest: the most tokens of a reply.

    Raises:
        ValueError: an empty reply was given, or a change that does not fit the model.
    """
    first = read(model, prompt, AS_IT_IS, response=response, longest=longest)
    readings = (first, *(read(model, prompt, v, longest=longest) for v in variants))
    ids, sinks = first.prompt.response_ids, first.sinks.positions
    again = tuple(forced(model, resolve(model, [prompt], r.variant.interventions), ids, sinks) for r in readings)
    named = tuple(labels(r.reply, model.tokenizer, scene) for r in readings)
    truth = "" if scene is None else scene.captions["detailed"]
    return Comparison(repr(model), prompt, image, readings, again, named, truth)
