"""Priors of version 2 between a class and its looks: the usual colour, the usual height in the image."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final

import numpy as np

from interp.world import drawing
from interp.world.objects import CLASSES, REPEATED, SIZES, Object, palette
from interp.world.version import World

USUAL_COLOUR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "table": "orange",
        "chair": "blue",
        "sofa": "purple",
        "lamp": "yellow",
        "cup": "white",
        "bottle": "green",
        "apple": "red",
        "book": "blue",
        "cat": "black",
        "dog": "orange",
        "ball": "red",
        "tree": "green",
        "bird": "black",
        "bench": "orange",
        "car": "red",
        "bus": "yellow",
        "person": "blue",
        "boat": "white",
        "umbrella": "purple",
        "clock": "white",
    }
)
"""The colour that most objects of a class have."""

USUALLY: Final = 0.6
"""P(usual colour | class); the other colours of the class share the rest."""

HEIGHTS: Final[Mapping[str, tuple[float, float, float]]] = MappingProxyType(
    {
        name: (0.7, 0.2, 0.1)
        if name in {"lamp", "bird", "clock", "tree", "umbrella"}
        else (0.1, 0.25, 0.65)
        if name in {"table", "sofa", "cat", "dog", "ball", "bench", "apple"}
        else (0.2, 0.6, 0.2)
        for name in CLASSES
    }
)
"""P(top, middle, bottom row of cells | class), while cells of all rows are free."""

SMALLEST: Final = 6
"""Side of the smallest glyph, in pixels."""
CELL: Final = 20
FIRST_CELL: Final = 12
SHIFT: Final = 4


@cache
def colour_prior(name: str) -> tuple[float, ...]:
    """Return P(colour | class), in the order of `palette(name)`."""
    options = palette(name)
    rest = (1 - USUALLY) / (len(options) - 1)
    return tuple(USUALLY if colour == USUAL_COLOUR[name] else rest for colour in options)


def lay_out_tied(generator: np.random.Generator, names: tuple[str, ...], world: World) -> tuple[Object, ...]:
    """Give every class one to three objects with the usual colours and heights of their class.

    Most objects get a cell of a 3 × 3 grid to themselves, the others and those without a free cell land anywhere;
    large ones are drawn first.

    Args:
        generator: Source of all draws.
        names: The classes, each once.
        world: Ranges of opacity and size, and the largest number of objects.
    """
    free = set(range(9))
    objects = []
    for name in _copies(generator, names, world):
        centre = _centre(generator, name, free, world.in_cell)
        opacity = 1.0 if generator.random() < world.solid else float(generator.uniform(*world.opacity))
        size = generator.integers(*SIZES[name]) * generator.uniform(*world.scale)
        colour = palette(name)[_draw(generator, colour_prior(name))]
        objects.append(Object(name, colour, centre, max(SMALLEST, int(size)), opacity))
    objects.sort(key=lambda thing: -thing.size)
    return drawing.place_objects(objects)


def _draw(generator: np.random.Generator, weights: Sequence[float]) -> int:
    """Draw an index with these weights; plain arithmetic, since arrays are slower for so few."""
    left = generator.random() * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return max(index for index, weight in enumerate(weights) if weight)


def _copies(generator: np.random.Generator, names: tuple[str, ...], world: World) -> Iterator[str]:
    """Yield every class once, and some again while there is room."""
    room = world.objects - len(names)
    for name in names:
        extra = 0
        if name in REPEATED and generator.random() < world.repeats:
            extra = min(room, 1 if generator.random() < 0.7 else 2)
        room -= extra
        yield from (name,) * (1 + extra)


def _centre(generator: np.random.Generator, name: str, free: set[int], in_cell: float) -> tuple[int, int]:
    """Return the centre of an object as column and row; takes its cell from the free ones, numbered by rows."""
    if generator.random() >= in_cell or not free:
        col, row = generator.integers(8, 57, 2)
        return int(col), int(row)
    heights = HEIGHTS[name]
    cell = _draw(generator, [heights[index // 3] if index in free else 0.0 for index in range(9)])
    free.remove(cell)
    row, col = divmod(cell, 3)
    right, down = generator.integers(-SHIFT, SHIFT + 1, 2)
    return FIRST_CELL + CELL * col + int(right), FIRST_CELL + CELL * row + int(down)
