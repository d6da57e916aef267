"""From objects to pixels: masks of the glyphs, who owns which pixel, and the image."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw

from interp.world.glyphs import BACKGROUNDS, GLYPHS, Stroke
from interp.world.objects import COLOURS, IMAGE_SIZE, Object

CANVAS = 64
GREY = (150, 150, 150)
PIXEL_NOISE = 6.0
TINT_NOISE = 6.0


def _stroke(canvas: ImageDraw.ImageDraw, stroke: Stroke) -> None:
    match stroke.form:
        case "rectangle":
            canvas.rectangle(stroke.points, fill=255)
        case "ellipse":
            canvas.ellipse(stroke.points, fill=255)
        case "polygon":
            canvas.polygon(stroke.points, fill=255)
        case "ring":
            canvas.ellipse(stroke.points, outline=255, width=6)
        case "dome":
            canvas.pieslice(stroke.points, 180, 360, fill=255)
        case "cushion":
            canvas.rounded_rectangle(stroke.points, 7, fill=255)


@cache
def glyph(name: str, size: int) -> Float[np.ndarray, "part row col"]:
    """Return the coverage of a glyph's body and of its details, each pixel in [0, 1]."""
    parts = []
    for detail in (False, True):
        layer = Image.new("L", (CANVAS, CANVAS), 0)
        canvas = ImageDraw.Draw(layer)
        for stroke in GLYPHS[name]:
            if stroke.detail == detail:
                _stroke(canvas, stroke)
        parts.append(np.asarray(layer.resize((size, size), Image.Resampling.BOX), np.float32) / 255)
    return np.stack(parts)


@cache
def _mask(name: str, size: int) -> Bool[np.ndarray, "row col"]:
    """Return which pixels belong to a glyph: those that it covers more than half of."""
    return glyph(name, size).max(0) > 0.5


@cache
def _layers(
    name: str, size: int, colour: str
) -> tuple[tuple[Float[np.ndarray, "row col 1"], Float[np.ndarray, " channel"]], ...]:
    """Return body and details of a glyph: the coverage and the paint of each."""
    paint = np.array(COLOURS[colour], np.float32)
    dark = np.array(GREY, np.float32) if colour == "black" else 0.3 * paint
    return tuple((part[..., None], shade) for part, shade in zip(glyph(name, size), (paint, dark), strict=True))


@cache
def _extent(name: str, size: int) -> tuple[int, int, int, int, int]:
    """Return left, top, right, bottom of a whole glyph's pixels inside its square, and how many there are."""
    mask = _mask(name, size)
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1, int(mask.sum())


def _window(thing: Object) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the image that a glyph meets, and the same inside the glyph."""
    left, top = thing.centre[0] - thing.size // 2, thing.centre[1] - thing.size // 2
    x0, x1 = max(left, 0), min(left + thing.size, IMAGE_SIZE)
    y0, y1 = max(top, 0), min(top + thing.size, IMAGE_SIZE)
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def owners(objects: Sequence[Object]) -> Int[np.ndarray, "row col"]:
    """Return for every pixel the index of the object seen there, -1 for the background.

    Later objects cover earlier ones; a pixel belongs to a glyph that covers more than half of it.
    """
    owner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int64)
    for index, thing in enumerate(objects):
        rows, cols, inner_rows, inner_cols = _window(thing)
        mask = _mask(thing.name, thing.size)
        owner[rows, cols][mask[inner_rows, inner_cols]] = index
    return owner


def place_objects(objects: Sequence[Object]) -> tuple[Object, ...]:
    """Return the objects with their boxes and visible fractions as they come out when drawn in order."""
    owner = owners(objects)
    seen = np.bincount(owner[owner >= 0], minlength=len(objects))
    placed = []
    for thing, pixels in zip(objects, seen, strict=True):
        left, top, right, bottom, total = _extent(thing.name, thing.size)
        rows, cols, inner_rows, inner_cols = _window(thing)
        if inner_rows.stop - inner_rows.start < thing.size or inner_cols.stop - inner_cols.start < thing.size:
            inside = _mask(thing.name, thing.size)[inner_rows, inner_cols]
            ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            left, top, right, bottom = 0, 0, 0, 0
            if len(ys):
                left, top, right, bottom = (int(edge) for edge in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
                left, right, top, bottom = left + cols.start, right + cols.start, top + rows.start, bottom + rows.start
        else:
            left, right, top, bottom = left + cols.start, right + cols.start, top + rows.start, bottom + rows.start
        placed.append(replace(thing, box=(left, top, right, bottom), visible=float(pixels / total)))
    return tuple(placed)


def blurred(canvas: Float[np.ndarray, "row col channel"], passes: int) -> Float[np.ndarray, "row col channel"]:
    """Return an image after some passes of the 3 × 3 binomial filter (1, 2, 1) / 4 in both directions."""
    for _ in range(passes):
        for axis in (0, 1):
            wide = np.pad(canvas, [(1, 1) if axis == at else (0, 0) for at in range(3)], mode="edge")
            low, middle, high = (wide.take(range(start, start + IMAGE_SIZE), axis) for start in range(3))
            canvas = 0.25 * low + 0.5 * middle + 0.25 * high
    return canvas


def _background(place: str, rng: np.random.Generator) -> Float[np.ndarray, "row col channel"]:
    """Return the tinted two-colour background with a horizon."""
    horizon = 26 + int(rng.integers(-4, 5))
    above, below = (np.array(colour, np.float32) for colour in BACKGROUNDS[place])
    canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    canvas[:horizon], canvas[horizon:] = above, below
    canvas += rng.normal(0, TINT_NOISE, 3).astype(np.float32)
    return canvas


def _paint(canvas: Float[np.ndarray, "row col channel"], thing: Object) -> None:
    """Draw one object over what is there."""
    rows, cols, inner_rows, inner_cols = _window(thing)
    region = canvas[rows, cols]
    for part, paint in _layers(thing.name, thing.size, thing.colour):
        cover = thing.opacity * part[inner_rows, inner_cols]
        region += cover * (paint - region)


def render(
    place: str, objects: Sequence[Object], seed: Sequence[int], *, noise: float = PIXEL_NOISE, blur: int = 0
) -> UInt8[np.ndarray, "row col channel"]:
    """Return the image of a scene.

    A tinted two-colour background with a horizon, the objects in order, blur, and pixel noise over all.

    Args:
        place: One of `PLACES`.
        objects: In drawing order.
        seed: Of tint, horizon and noise.
        noise: Standard deviation of the pixel noise, in grey levels.
        blur: Passes of the binomial filter.
    """
    rng = np.random.default_rng(seed)
    canvas = _background(place, rng)
    for thing in objects:
        _paint(canvas, thing)
    canvas = blurred(canvas, blur)
    canvas += noise * rng.standard_normal(canvas.shape, np.float32)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def detectability(
    place: str, objects: Sequence[Object], seed: Sequence[int], *, noise: float, blur: int
) -> Float[np.ndarray, " object_"]:
    """Return d' of every object: how well an ideal observer tells the image with it from the image without it.

    The root of the summed squared difference that the object makes to the noise-free image, over the standard
    deviation of the noise (with one grey level for the rounding). The observer knows everything else about the
    scene, so this is an upper bound: 0 for a hidden object, about 1 at the edge of what can be detected.
    """
    level = np.sqrt(noise**2 + 1)
    found = []
    for index in range(len(objects)):
        images = []
        for things in (objects, [*objects[:index], *objects[index + 1 :]]):
            canvas = _background(place, np.random.default_rng(seed))
            for thing in things:
                _paint(canvas, thing)
            images.append(blurred(canvas, blur))
        found.append(np.sqrt(((images[0] - images[1]) ** 2).sum()) / level)
    return np.array(found)
