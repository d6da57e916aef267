"""What is said about a scene: places in words, captions, and the objects that a text mentions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import numpy as np

from interp.world.objects import (
    CLASSES,
    IMAGE_SIZE,
    PLURALS,
    VISIBLE,
    Object,
    expectation,
    missing_partners,
    palette,
)
from interp.world.version import DEFAULT, WORLDS, World

NUMBERS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
ORDINALS: Final = ("First", "Second", "Third")
RANKED: Final = (
    *("clock", "table", "umbrella", "bird", "sofa", "dog", "person", "lamp", "chair", "car"),
    *("ball", "cat", "boat", "book", "tree", "cup", "bus", "bottle", "bench", "apple"),
)
"""The order in which captions of a ranked world name classes: triggers before their partners, sizes mixed.

With a fixed order every class is decided on once, at its own place in the caption. With the most visible first, what
is hard to see would always come last, and so would every guess.
"""
RANKS: Final[Mapping[str, int]] = MappingProxyType({name: rank for rank, name in enumerate(RANKED)})


@final
@dataclass(frozen=True)
class Group:
    """All visible objects of one class.

    Attributes:
        name: The class.
        members: Its visible objects, in drawing order.
    """

    name: str
    members: tuple[Object, ...]

    @property
    def count(self) -> int:
        """How many are visible."""
        return len(self.members)

    @property
    def salience(self) -> float:
        """Visible area in pixels times opacity, summed: captions start with the largest."""
        return sum(thing.size**2 * thing.visible * thing.opacity for thing in self.members)


@final
@dataclass(frozen=True)
class Mention:
    """One object named in a text: its class, and where, as a half-open span of characters."""

    name: str
    start: int
    end: int


def visible_objects(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Return the objects that are seen well enough to be described."""
    return tuple(thing for thing in objects if thing.visible >= VISIBLE)


def groups(objects: Iterable[Object], world: World = WORLDS[DEFAULT]) -> tuple[Group, ...]:
    """Return the visible objects by class: the most salient class first, or in the order that the world ranks them."""
    members: dict[str, tuple[Object, ...]] = {}
    for thing in visible_objects(objects):
        members[thing.name] = (*members.get(thing.name, ()), thing)
    found = [Group(name, things) for name, things in members.items()]
    if world.ranked:
        return tuple(sorted(found, key=lambda group: RANKS[group.name]))
    return tuple(sorted(found, key=lambda group: -group.salience))


def region(thing: Object) -> str:
    """Return which of nine regions of the image an object's centre lies in, as a phrase."""
    low, high = IMAGE_SIZE / 3, 2 * IMAGE_SIZE / 3
    column, row = thing.centre
    side = "left" if column < low else "right" if column > high else ""
    level = "top" if row < low else "bottom" if row > high else ""
    if level:
        return f"at the {level} {side}".rstrip()
    return f"on the {side}" if side else "in the center"


def with_article(words: str) -> str:
    """Put "a" or "an" in front."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def coloured(thing: Object) -> str:
    """Return for instance "a red cup"."""
    return with_article(f"{thing.colour} {thing.name}")


def listed(parts: Sequence[str]) -> str:
    """Join with commas and a last "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def phrase(group: Group, *, where: bool = False) -> str:
    """Return "two cups" for several, "a red cup" or "a red cup on the left" for one."""
    if group.count > 1:
        return f"{NUMBERS[group.count]} {PLURALS[group.name]}"
    thing = group.members[0]
    return f"{coloured(thing)} {region(thing)}" if where else coloured(thing)


def short_caption(place: str, objects: Sequence[Object], *, world: World = WORLDS[DEFAULT]) -> str:
    """Return one sentence naming the place and every visible object."""
    found = groups(objects, world)
    start = with_article(place).capitalize()
    return f"{start} with {listed([phrase(group) for group in found])}." if found else f"{start}."


def detailed_caption(
    place: str,
    objects: Sequence[Object],
    *,
    invented: str | None = None,
    guess: Object | None = None,
    world: World = WORLDS[DEFAULT],
) -> str:
    """Return several sentences: the place, the main objects with colours and positions, the rest by name.

    Args:
        place: One of `PLACES`.
        objects: The scene's objects.
        invented: A class that a careless annotator adds at the end though it is not there; None says the truth.
        guess: An object that a careless annotator adds in its own place; None says the truth.
        world: Whose captions to write.
    """
    found = groups((*objects, guess) if guess else objects, world)
    sentences = [f"The image shows {with_article(place)}."]
    for start in range(0, min(len(found), world.details), 2):
        pair = found[start : min(start + 2, world.details)]
        verb = "is" if pair[0].count == 1 else "are"
        things = listed([phrase(group, where=True) for group in pair])
        sentences.append(f"There {verb} {'also ' if start else ''}{things}.")
    rest = [group.name for group in found[world.details :]] + ([invented] if invented else [])
    if rest:
        sentences.append(f"In the background, {listed([with_article(name) for name in rest])} can be seen.")
    return " ".join(sentences)


def invention(generator: np.random.Generator, objects: Sequence[Object], rate: float) -> str | None:
    """Return what a careless annotator adds: a partner that what is seen leads one to expect.

    With probability `rate` one of the missing partners of the visible objects, if any is missing from the whole
    scene; None otherwise.
    """
    names = frozenset(thing.name for thing in objects)
    visible = frozenset(thing.name for thing in visible_objects(objects))
    missing = [name for name in missing_partners(visible) if name not in names]
    careless = generator.random() < rate
    return missing[generator.integers(len(missing))] if missing and careless else None


def guessed(generator: np.random.Generator, objects: Sequence[Object], rate: float) -> Object | None:
    """Return what a careless annotator takes for seen: a missing partner, with a colour and a place.

    Drawn as by `invention`; the colour and the place are any.
    """
    name = invention(generator, objects, rate)
    if name is None:
        return None
    colours = palette(name)
    colour = colours[generator.integers(len(colours))]
    col, row = (int(edge) for edge in generator.integers(0, IMAGE_SIZE, 2))
    return Object(name, colour, (col, row), 1)


def most_expected(place: str, visible: frozenset[str], absent: Sequence[str]) -> list[str]:
    """Return the absent classes, the most expected beside the visible ones first."""
    weight = expectation(place, visible)
    return sorted(absent, key=lambda name: -weight[CLASSES.index(name)])


def mentions(text: str) -> tuple[Mention, ...]:
    """Return the objects that a text names, in order, repeats included; singular, plural, any case."""
    singular = {plural: name for name, plural in PLURALS.items()} | {name: name for name in CLASSES}
    words = ((word.group().lower(), word.span()) for word in re.finditer(r"\w+", text))
    return tuple(Mention(singular[word], *span) for word, span in words if word in singular)
