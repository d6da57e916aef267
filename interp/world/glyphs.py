"""The glyph of every class as strokes on a 64 × 64 canvas: a body in the object's colour, details in a dark shade."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Form = Literal["rectangle", "ellipse", "polygon", "ring", "dome", "cushion"]


class Stroke(NamedTuple):
    """One filled shape: its form, its coordinates, and whether it is a detail."""

    form: Form
    points: tuple[int, ...]
    detail: bool = False


def _body(form: Form, *points: int) -> Stroke:
    return Stroke(form, points)


def _detail(form: Form, *points: int) -> Stroke:
    return Stroke(form, points, detail=True)


GLYPHS: Final[Mapping[str, tuple[Stroke, ...]]] = MappingProxyType(
    {
        "table": (
            _body("rectangle", 2, 18, 62, 28),
            _body("rectangle", 8, 28, 15, 60),
            _body("rectangle", 49, 28, 56, 60),
        ),
        "bench": (
            _body("rectangle", 2, 34, 62, 42),
            _body("rectangle", 2, 14, 62, 23),
            _body("rectangle", 10, 42, 17, 58),
            _body("rectangle", 47, 42, 54, 58),
            _body("rectangle", 8, 16, 13, 36),
            _body("rectangle", 51, 16, 56, 36),
        ),
        "chair": (
            _body("rectangle", 10, 3, 20, 61),
            _body("rectangle", 10, 31, 52, 41),
            _body("rectangle", 42, 40, 52, 61),
        ),
        "sofa": (
            _body("cushion", 8, 14, 56, 40),
            _body("cushion", 1, 30, 63, 53),
            _detail("rectangle", 6, 53, 13, 60),
            _detail("rectangle", 51, 53, 58, 60),
            _detail("rectangle", 30, 32, 33, 50),
        ),
        "lamp": (
            _body("polygon", 22, 3, 42, 3, 57, 31, 7, 31),
            _detail("rectangle", 28, 31, 35, 54),
            _detail("rectangle", 15, 54, 49, 61),
        ),
        "umbrella": (_body("dome", 2, 5, 62, 65), _detail("rectangle", 29, 35, 35, 62)),
        "cup": (_body("rectangle", 9, 15, 43, 57), _body("ring", 35, 21, 61, 49)),
        "bottle": (
            _body("rectangle", 25, 2, 39, 21),
            _body("rectangle", 17, 20, 47, 62),
            _detail("rectangle", 17, 33, 47, 46),
        ),
        "apple": (
            _body("ellipse", 7, 17, 57, 62),
            _detail("rectangle", 29, 2, 35, 18),
            _detail("ellipse", 36, 3, 54, 15),
        ),
        "ball": (_body("ellipse", 5, 5, 59, 59), _detail("rectangle", 5, 28, 59, 36)),
        "clock": (
            _body("ellipse", 4, 4, 60, 60),
            _detail("rectangle", 29, 11, 35, 35),
            _detail("rectangle", 29, 29, 50, 35),
        ),
        "book": (_body("rectangle", 5, 13, 59, 55), _detail("rectangle", 28, 13, 36, 55)),
        "cat": (
            _body("ellipse", 9, 17, 55, 61),
            _body("polygon", 9, 36, 11, 2, 32, 21),
            _body("polygon", 55, 36, 53, 2, 32, 21),
            _detail("ellipse", 19, 30, 28, 39),
            _detail("ellipse", 36, 30, 45, 39),
        ),
        "dog": (
            _body("ellipse", 14, 10, 50, 60),
            _body("ellipse", 1, 10, 20, 46),
            _body("ellipse", 44, 10, 63, 46),
            _detail("ellipse", 21, 25, 28, 32),
            _detail("ellipse", 36, 25, 43, 32),
            _detail("ellipse", 25, 41, 39, 53),
        ),
        "tree": (_body("ellipse", 6, 2, 58, 44), _detail("rectangle", 26, 42, 38, 63)),
        "bird": (
            _body("ellipse", 10, 24, 48, 49),
            _body("polygon", 18, 30, 38, 30, 23, 3),
            _body("ellipse", 39, 15, 57, 35),
            _body("polygon", 1, 23, 14, 34, 3, 47),
            _detail("polygon", 54, 21, 63, 27, 54, 31),
        ),
        "car": (
            _body("rectangle", 2, 30, 62, 48),
            _body("polygon", 13, 31, 21, 13, 45, 13, 55, 31),
            _detail("ellipse", 7, 41, 22, 57),
            _detail("ellipse", 42, 41, 57, 57),
        ),
        "bus": (
            _body("rectangle", 2, 9, 62, 50),
            _detail("rectangle", 7, 17, 20, 28),
            _detail("rectangle", 26, 17, 38, 28),
            _detail("rectangle", 44, 17, 57, 28),
            _detail("ellipse", 8, 44, 21, 57),
            _detail("ellipse", 43, 44, 56, 57),
        ),
        "person": (
            _body("ellipse", 23, 2, 41, 20),
            _body("rectangle", 17, 21, 47, 44),
            _body("rectangle", 19, 44, 29, 63),
            _body("rectangle", 35, 44, 45, 63),
        ),
        "boat": (
            _body("polygon", 1, 42, 63, 42, 50, 61, 14, 61),
            _body("polygon", 34, 2, 34, 38, 59, 38),
            _detail("rectangle", 29, 2, 33, 42),
        ),
    }
)
"""Strokes per class, drawn in order."""

BACKGROUNDS: Final[Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]]] = MappingProxyType(
    {
        "kitchen": ((236, 226, 200), (205, 190, 160)),
        "lounge": ((232, 205, 205), (190, 160, 150)),
        "office": ((205, 212, 225), (165, 170, 180)),
        "park": ((190, 220, 240), (165, 205, 150)),
        "street": ((205, 205, 210), (140, 140, 145)),
        "beach": ((170, 210, 235), (232, 215, 165)),
    }
)
"""Colour above and below the horizon, per place."""
