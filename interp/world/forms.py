"""Yes/no questions in MME's forms, and questions about two images: with answers, as training asks them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np

from interp.world.objects import CLASSES, COLOURS, PLURALS
from interp.world.questions import SceneView, existence_text
from interp.world.text import NUMBERS, coloured, region, short_caption, with_article

T = TypeVar("T")
Asked = tuple[str, str]
"""A question and its answer."""

REGIONS: Final = (
    *("at the top left", "at the top", "at the top right", "on the left", "in the center", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
"""What `region` returns."""
NUMBERED: Final = ("first", "second")


def _pick(generator: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(generator.integers(len(options)))]


def _other(generator: np.random.Generator, options: Sequence[T], than: T) -> T:
    return _pick(generator, [option for option in options if option != than])


def position_form(generator: np.random.Generator, seen: SceneView) -> Asked | None:
    """Return "Is there a cup at the top left?" with its answer; None without an object that is alone of its class."""
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    true = generator.random() < seen.world.positive
    where = region(thing) if true else _other(generator, REGIONS, region(thing))
    return f"Is there {with_article(thing.name)} {where}?", "Yes" if true else "No"


def colour_form(generator: np.random.Generator, seen: SceneView) -> Asked | None:
    """Return "Is there a red cup in the image?" with its answer; None without an object that is alone of its class."""
    if not seen.singles:
        return None
    thing = _pick(generator, seen.singles)
    if generator.random() < seen.world.positive:
        return f"Is there {coloured(thing)} in the image?", "Yes"
    return existence_text(f"{_other(generator, tuple(COLOURS), thing.colour)} {thing.name}"), "No"


def count_form(generator: np.random.Generator, seen: SceneView) -> Asked | None:
    """Return "Are there two cups in the image?" with its answer; None when nothing is visible."""
    if not seen.groups:
        return None
    several = [group for group in seen.groups if group.count > 1]
    group = _pick(generator, several if several and generator.random() < 0.5 else seen.groups)
    true = generator.random() < seen.world.positive
    number = NUMBERS[group.count] if true else _other(generator, NUMBERS[1:4], NUMBERS[group.count])
    if number == "one":
        return f"Is there one {group.name} in the image?", "Yes" if true else "No"
    return f"Are there {number} {PLURALS[group.name]} in the image?", "Yes" if true else "No"


FORMS: Final[Mapping[str, Callable[[np.random.Generator, SceneView], Asked | None]]] = MappingProxyType(
    {"position": position_form, "color": colour_form, "count": count_form}
)
"""MME's tasks that are not plain existence, by MME's name."""


def _names(seen: SceneView) -> frozenset[str]:
    return frozenset(thing.name for thing in seen.objects)


def pair_existence(generator: np.random.Generator, pair: Sequence[SceneView]) -> Asked | None:
    """Return whether a class is in one of two images; for the answer no, mostly a class that is in the other."""
    at = int(generator.integers(2))
    here, there = pair[at], pair[1 - at]
    if generator.random() < here.world.positive:
        options, answer = [group.name for group in here.groups], "Yes"
    else:
        only = [group.name for group in there.groups if group.name not in _names(here)]
        absent = [name for name in CLASSES if name not in _names(here)]
        options, answer = (only if only and generator.random() < 0.7 else absent), "No"
    if not options:
        return None
    return f"Is there {with_article(_pick(generator, options))} in the {NUMBERED[at]} image?", answer


def pair_colour(generator: np.random.Generator, pair: Sequence[SceneView]) -> Asked | None:
    """Return what colour an object of one image has; None without one that is alone of its class there."""
    at = int(generator.integers(2))
    if not pair[at].singles:
        return None
    thing = _pick(generator, pair[at].singles)
    return f"What color is the {thing.name} in the {NUMBERED[at]} image?", thing.colour


def pair_place(generator: np.random.Generator, pair: Sequence[SceneView]) -> Asked | None:
    """Return what place one of the images shows."""
    at = int(generator.integers(2))
    return f"What place is the {NUMBERED[at]} image?", with_article(pair[at].place)


def pair_which(generator: np.random.Generator, pair: Sequence[SceneView]) -> Asked | None:
    """Return which image shows a class that is in one of them only; None when there is no such class."""
    at = int(generator.integers(2))
    only = [group.name for group in pair[at].groups if group.name not in _names(pair[1 - at])]
    return (f"Which image shows {with_article(_pick(generator, only))}?", f"the {NUMBERED[at]} image") if only else None


def pair_caption(generator: np.random.Generator, pair: Sequence[SceneView]) -> Asked | None:
    """Return the short caption of one of the images."""
    at = int(generator.integers(2))
    seen = pair[at]
    return f"Describe the {NUMBERED[at]} image.", short_caption(seen.place, seen.objects, world=seen.world)


PAIR_FORMS: Final[Mapping[str, Callable[[np.random.Generator, Sequence[SceneView]], Asked | None]]] = MappingProxyType(
    {
        "existence": pair_existence,
        "colour": pair_colour,
        "place": pair_place,
        "which": pair_which,
        "caption": pair_caption,
    }
)
"""Questions about two images, by kind."""
