"""Questions about a scene with their answers, from one word to several steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Literal, TypeVar, final, get_args

import numpy as np

from interp.world.objects import CLASSES, PLURALS, Object, popularity
from interp.world.text import (
    NUMBERS,
    ORDINALS,
    Group,
    coloured,
    groups,
    listed,
    most_expected,
    region,
    short_caption,
    visible_objects,
    with_article,
)
from interp.world.version import DEFAULT, WORLDS, World

T = TypeVar("T")
Kind = Literal["existence", "colour", "where", "count", "place", "at", "order", "steps"]
Probe = Literal["", "random", "popular", "adversarial"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PROBES: Final[tuple[Probe, ...]] = get_args(Probe)[1:]
PROBED: Final = 3
"""Existence questions of each sign per scene and probe."""


@final
@dataclass(frozen=True)
class Question:
    """A question about one scene.

    Attributes:
        kind: What it asks for.
        text: The question.
        answer: The true answer.
        subject: The class asked about, where there is one.
        probe: For existence: how the absent classes of its set were chosen ("random", "popular" for the most
            common ones, "adversarial" for those that the scene leads one to expect).
        steps: For multi-step questions: the sentences of the answer in order.
    """

    kind: Kind
    text: str
    answer: str
    subject: str = ""
    probe: Probe = ""
    steps: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class SceneView:
    """What questions are made from: the place, all objects, and the visible ones by class."""

    place: str
    objects: tuple[Object, ...]
    groups: tuple[Group, ...]
    world: World = WORLDS[DEFAULT]

    @property
    def singles(self) -> list[Object]:
        """Visible objects that are the only one of their class in the scene, seen or not."""
        names = [thing.name for thing in self.objects]
        return [group.members[0] for group in self.groups if names.count(group.name) == 1]

    @property
    def absent(self) -> list[str]:
        """Classes with no object at all."""
        names = {thing.name for thing in self.objects}
        return [name for name in CLASSES if name not in names]

    @property
    def alone(self) -> list[Object]:
        """Visible objects that have their region to themselves."""
        regions = [region(thing) for thing in self.objects]
        return [thing for thing in visible_objects(self.objects) if regions.count(region(thing)) == 1]

    @property
    def ordered(self) -> list[Object]:
        """Visible objects from left to right; empty if there is only one, or too many, or two are too close."""
        found = sorted(visible_objects(self.objects), key=lambda thing: thing.centre[0])
        columns = [thing.centre[0] for thing in found]
        apart = all(right - left >= self.world.order_gap for left, right in pairwise(columns))
        return found if apart and 1 < len(found) <= self.world.order_most else []


def view(place: str, objects: Sequence[Object], world: World = WORLDS[DEFAULT]) -> SceneView:
    """Return what questions about a scene are made from."""
    return SceneView(place, tuple(objects), groups(objects, world), world)


def existence_text(name: str) -> str:
    """Return the question whether a class is in the image."""
    return f"Is there {with_article(name)} in the image?"


def _pick(generator: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(generator.integers(len(options)))]


def negatives(generator: np.random.Generator, seen: SceneView, probe: Probe, n: int) -> list[str]:
    """Return n absent classes: any, the most common ones, or the most expected ones."""
    absent = seen.absent
    if probe == "popular":
        common = popularity()
        return sorted(absent, key=lambda name: -common[CLASSES.index(name)])[:n]
    if probe == "adversarial":
        return most_expected(seen.place, frozenset(group.name for group in seen.groups), absent)[:n]
    return [str(name) for name in generator.permutation(absent)[:n]]


def _existence(generator: np.random.Generator, seen: SceneView) -> Question:
    if seen.groups and generator.random() < seen.world.positive:
        name = _pick(generator, seen.groups).name
        return Question("existence", existence_text(name), "Yes", name)
    probe = _pick(generator, PROBES)
    name = _pick(generator, negatives(generator, seen, probe, PROBED))
    return Question("existence", existence_text(name), "No", name, probe)


def _colour(generator: np.random.Generator, seen: SceneView) -> Question | None:
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    return Question("colour", f"What color is the {thing.name}?", thing.colour, thing.name)


def _where(generator: np.random.Generator, seen: SceneView) -> Question | None:
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    return Question("where", f"Where is the {thing.name}?", region(thing), thing.name)


def _count(generator: np.random.Generator, seen: SceneView) -> Question:
    name, number = _pick(generator, seen.absent), 0
    if seen.groups and generator.random() < 0.85:
        several = [group for group in seen.groups if group.count > 1]
        group = _pick(generator, several if several and generator.random() < 0.5 else seen.groups)
        name, number = group.name, group.count
    return Question("count", f"How many {PLURALS[name]} are there?", NUMBERS[number], name)


def _place(_: np.random.Generator, seen: SceneView) -> Question:
    return Question("place", "What place is this?", with_article(seen.place))


def _at(generator: np.random.Generator, seen: SceneView) -> Question | None:
    if not seen.alone:
        return None
    thing = _pick(generator, seen.alone)
    return Question("at", f"What is {region(thing)}?", coloured(thing), thing.name)


def _order(_: np.random.Generator, seen: SceneView) -> Question | None:
    if not seen.ordered:
        return None
    names = listed([with_article(thing.name) for thing in seen.ordered])
    text = "Name the objects from left to right."
    return Question("order", text, f"From left to right, there is {names}.")


Step = Callable[[np.random.Generator, SceneView], tuple[str, str] | None]
"""Makes one step: what is asked, and what is true."""


def _step_describe(_: np.random.Generator, seen: SceneView) -> tuple[str, str]:
    caption = short_caption(seen.place, seen.objects, world=seen.world)
    return "describe the image", f"the image shows {caption[0].lower()}{caption[1:-1]}"


def _step_count(_: np.random.Generator, seen: SceneView) -> tuple[str, str] | None:
    number = sum(group.count for group in seen.groups)
    if number >= len(NUMBERS):
        return None
    noun = "object" if number == 1 else "objects"
    return "count the objects", f"there {'is' if number == 1 else 'are'} {NUMBERS[number]} {noun}"


def _step_at(generator: np.random.Generator, seen: SceneView) -> tuple[str, str] | None:
    if not seen.alone:
        return None
    thing = _pick(generator, seen.alone)
    return f"say what is {region(thing)}", f"{region(thing)} there is {coloured(thing)}"


def _step_colour(generator: np.random.Generator, seen: SceneView) -> tuple[str, str] | None:
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    return f"say what color the {thing.name} is", f"the {thing.name} is {thing.colour}"


def _step_where(generator: np.random.Generator, seen: SceneView) -> tuple[str, str] | None:
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    return f"say where the {thing.name} is", f"the {thing.name} is {region(thing)}"


def _steps(generator: np.random.Generator, seen: SceneView) -> Question | None:
    """Two or three different steps: mostly describe and count first, then look at one thing."""
    asked: list[Step] = [_step_describe, _step_count]
    if generator.random() < 0.3:
        asked = [_pick(generator, asked)]
    asked.append(_pick(generator, (_step_at, _step_colour, _step_where)))
    done = [step(generator, seen) for step in asked]
    parts = [part for part in done if part is not None]
    if len(parts) != len(done):
        return None
    orders = [part[0] for part in parts]
    text = f"{orders[0].capitalize()}, {''.join(order + ', ' for order in orders[1:-1])}then {orders[-1]}."
    steps = tuple(f"{ORDINALS[i]}, {part[1]}." for i, part in enumerate(parts))
    return Question("steps", text, " ".join(steps), steps=steps)


MAKERS: Final[Mapping[Kind, Callable[[np.random.Generator, SceneView], Question | None]]] = MappingProxyType(
    {
        "existence": _existence,
        "colour": _colour,
        "where": _where,
        "count": _count,
        "place": _place,
        "at": _at,
        "order": _order,
        "steps": _steps,
    }
)


def draw_question(generator: np.random.Generator, seen: SceneView, kind: Kind) -> Question | None:
    """Draw one question of a kind, or None if the scene has none."""
    return MAKERS[kind](generator, seen)


def probe_questions(generator: np.random.Generator, seen: SceneView, probe: Probe) -> list[Question]:
    """Return as many existence questions with the answer yes as with no, at most `PROBED` of each."""
    there = [group.name for group in seen.groups]
    positives = [str(name) for name in generator.permutation(there)[:PROBED]] if there else []
    pairs = [(name, "Yes") for name in positives]
    pairs += [(name, "No") for name in negatives(generator, seen, probe, len(positives))]
    return [Question("existence", existence_text(name), answer, name, probe) for name, answer in pairs]


def all_questions(
    place: str, objects: Sequence[Object], *, seed: int, world: World = WORLDS[DEFAULT]
) -> tuple[Question, ...]:
    """Return existence questions for every probe and one question of every other kind the scene allows."""
    generator, seen = np.random.default_rng(seed), view(place, objects, world)
    asked = [question for probe in PROBES for question in probe_questions(generator, seen, probe)]
    others = (draw_question(generator, seen, kind) for kind in KINDS if kind != "existence")
    return (*asked, *(question for question in others if question is not None))
