"""Questions in the form of MME about drawn scenes, in pairs: one with the answer yes, one with the answer no."""

from collections.abc import Iterator, Sequence

import numpy as np

from interp.bench.base import Sample
from interp.world import Scene
from interp.world.objects import COLOURS, PLURALS
from interp.world.questions import SceneView, existence_text, view
from interp.world.text import NUMBERS, coloured, region, with_article

_PLACES = (
    *("at the top left", "at the top", "at the top right", "on the left", "in the center", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
"""The regions that `region` can return."""


def scene_questions(about: Sequence[Scene], seed: int) -> list[Sample]:
    """Return two questions for every scene and every task that applies to it: the answer to one is yes, to the other no."""
    samples = []
    for i, scene in enumerate(about):
        generator = np.random.default_rng((seed, i))
        for task, true, false in _pairs(generator, view(scene.place, scene.objects)):
            for text, answer in ((true, "yes"), (false, "no")):
                samples.append(Sample(f"{task}/{i}/{answer}", text, f"{i}", {"answer": answer}, task, f"{i}"))
    return samples


def _pairs(generator: np.random.Generator, seen: SceneView) -> Iterator[tuple[str, str, str]]:
    """Yield tasks, each with a question whose answer is yes and one whose answer is no."""

    def other(options: Sequence[str], than: str) -> str:
        left = [o for o in options if o != than]
        return left[int(generator.integers(len(left)))]

    if seen.groups and seen.absent:
        there = seen.groups[int(generator.integers(len(seen.groups)))]
        yield "existence", existence_text(there.name), existence_text(other(seen.absent, there.name))
        number = NUMBERS[there.count]
        wrong = other(NUMBERS[1:4], number)
        yield "count", _counted(number, there.name), _counted(wrong, there.name)
    if seen.singles:
        thing = seen.singles[int(generator.integers(len(seen.singles)))]
        place, colour = region(thing), other(tuple(COLOURS), thing.colour)
        there_is = f"Is there {with_article(thing.name)}"
        yield "position", f"{there_is} {place}?", f"{there_is} {other(_PLACES, place)}?"
        yield "color", f"Is there {coloured(thing)} in the image?", existence_text(f"{colour} {thing.name}")


def _counted(number: str, name: str) -> str:
    return (
        f"Is there one {name} in the image?" if number == "one" else f"Are there {number} {PLURALS[name]} in the image?"
    )
