"""What the world is made of: classes, colours, places, and how likely each thing is where."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import numpy as np
from jaxtyping import Float

IMAGE_SIZE: Final = 64
"""Width and height of every image, in pixels."""

CLASSES: Final = (
    *("table", "chair", "sofa", "lamp", "cup", "bottle", "apple", "book", "cat", "dog"),
    *("ball", "tree", "bird", "bench", "car", "bus", "person", "boat", "umbrella", "clock"),
)
"""The twenty object classes."""

IRREGULAR_PLURALS: Final[Mapping[str, str]] = MappingProxyType({"bench": "benches", "bus": "buses", "person": "people"})
PLURALS: Final[Mapping[str, str]] = MappingProxyType(
    {name: IRREGULAR_PLURALS.get(name, name + "s") for name in CLASSES}
)
"""Plural of every class."""

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "red": (205, 40, 40),
        "orange": (240, 140, 30),
        "yellow": (235, 215, 50),
        "green": (40, 150, 60),
        "blue": (45, 80, 205),
        "purple": (140, 60, 170),
        "white": (250, 250, 250),
        "black": (25, 25, 25),
    }
)
"""The eight colours, as RGB."""

CLOTHES: Final = ("orange", "green", "blue", "purple")
"""The colours that people wear."""

PLACES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "kitchen": {
            "table": 0.85,
            "chair": 0.15,
            "cup": 0.6,
            "apple": 0.45,
            "bottle": 0.4,
            "clock": 0.25,
            "cat": 0.1,
            "lamp": 0.1,
        },
        "lounge": {
            "sofa": 0.85,
            "lamp": 0.5,
            "cat": 0.35,
            "book": 0.3,
            "clock": 0.3,
            "dog": 0.15,
            "table": 0.2,
            "cup": 0.15,
        },
        "office": {
            "table": 0.6,
            "book": 0.55,
            "lamp": 0.4,
            "clock": 0.4,
            "cup": 0.45,
            "chair": 0.3,
            "person": 0.3,
            "bottle": 0.15,
        },
        "park": {
            "tree": 0.85,
            "bench": 0.5,
            "dog": 0.45,
            "bird": 0.4,
            "person": 0.35,
            "ball": 0.1,
            "apple": 0.1,
        },
        "street": {
            "car": 0.8,
            "bus": 0.3,
            "person": 0.45,
            "tree": 0.4,
            "dog": 0.15,
            "bird": 0.15,
            "umbrella": 0.1,
            "bench": 0.15,
        },
        "beach": {
            "boat": 0.6,
            "umbrella": 0.55,
            "ball": 0.35,
            "person": 0.35,
            "bird": 0.4,
            "bottle": 0.2,
            "dog": 0.15,
        },
    }
)
"""P(class | place) for the classes that belong there."""

STRAY: Final = 0.012
"""P(class | place) for every class that does not belong there."""

PARTNERS: Final[Mapping[str, tuple[str, float]]] = MappingProxyType(
    {
        "table": ("chair", 0.9),
        "dog": ("ball", 0.75),
        "lamp": ("book", 0.65),
        "umbrella": ("person", 0.8),
        "car": ("bus", 0.45),
        "cup": ("bottle", 0.45),
        "sofa": ("cat", 0.4),
    }
)
"""Trigger to (partner, P(partner is added | trigger is there and partner is not))."""

REPEATED: Final = frozenset({"apple", "bird", "tree", "chair", "book", "cup", "person"})
"""Classes of which one scene can hold several."""

SIZES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        name: (18, 25)
        if name in {"table", "sofa", "car", "bus", "tree", "boat", "bench"}
        else (11, 16)
        if name in {"apple", "cup", "ball", "bird", "book", "bottle", "clock"}
        else (14, 20)
        for name in CLASSES
    }
)
"""Side of the drawn glyph per class in pixels, as a half-open range."""

VISIBLE: Final = 0.3
"""An object is described, and asked about with the answer yes, from this visible fraction on."""

PRESENT: Final = 0.1
"""An object counts as really there, when a caption is scored, from this visible fraction on."""


@final
@dataclass(frozen=True)
class Object:
    """One drawn object.

    Attributes:
        name: One of `CLASSES`.
        colour: One of `COLOURS`.
        centre: Column and row of the glyph's centre, in pixels.
        size: Side of the glyph's square, in pixels.
        opacity: 1 for a solid object, less for a faint one.
        box: Left, top, right, bottom of the glyph's own pixels inside the image, half-open.
        visible: Share of the glyph's pixels that are inside the image and not covered, in [0, 1].
    """

    name: str
    colour: str
    centre: tuple[int, int]
    size: int
    opacity: float = 1.0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    visible: float = 1.0

    @property
    def faint(self) -> bool:
        """Whether the background shines through."""
        return self.opacity < 1


def palette(name: str) -> tuple[str, ...]:
    """Return the colours that objects of a class can have."""
    return CLOTHES if name == "person" else tuple(COLOURS)


def place_prior(place: str, stray: float = STRAY) -> Float[np.ndarray, " class"]:
    """Return P(class | place) before partners are added, in the order of `CLASSES`."""
    return np.array([PLACES[place].get(name, stray) for name in CLASSES])


def expectation(place: str, present: frozenset[str]) -> Float[np.ndarray, " class"]:
    """Return how strongly each class is expected in a place beside the classes present.

    The larger of P(class | place) and of the partner probabilities that the present classes trigger; 0 for
    what is present already.
    """
    weights = place_prior(place)
    for trigger, (partner, probability) in PARTNERS.items():
        if trigger in present:
            at = CLASSES.index(partner)
            weights[at] = max(weights[at], probability)
    return np.where([name in present for name in CLASSES], 0.0, weights)


def missing_partners(names: frozenset[str]) -> tuple[str, ...]:
    """Return the partners that the named classes lead one to expect and that are not among them."""
    expected = dict.fromkeys(PARTNERS[name][0] for name in CLASSES if name in names and name in PARTNERS)
    return tuple(name for name in expected if name not in names)


def popularity() -> Float[np.ndarray, " class"]:
    """Return how common each class is over all places, partners included, in the order of `CLASSES`."""
    total = np.mean([place_prior(place) for place in PLACES], axis=0)
    for trigger, (partner, probability) in PARTNERS.items():
        at = CLASSES.index(partner)
        total[at] += (1 - total[at]) * total[CLASSES.index(trigger)] * probability
    return total
