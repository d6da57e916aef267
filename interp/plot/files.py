"""Plots as PNG files."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interp.data.result import Result
from interp.data.storage import write_atomically
from interp.plot.pictures import drawable, functions_for, picture
from interp.plot.style import style

Draw = Callable[[Axes], object]


def png(*draw: Draw, size: tuple[float, float] = (5.4, 3.6)) -> bytes:
    """Return a PNG of `size` inches; each function draws on its own axes, one below the other."""
    with style():
        figure = Figure(figsize=size, layout="constrained")
        for function, ax in zip(draw, figure.subplots(len(draw), 1, squeeze=False).flat, strict=True):
            function(ax)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def save_pictures(result: Result, folder: Path, name: str) -> list[Path]:
    """Write every plot of a result and return the files: `name.png`, or one file named after each of several plots."""
    if not drawable(result):
        return []
    several = functions_for(type(result))
    drawn = {
        f"{kind if kind.startswith(name) else f'{name}_{kind}'}.png": function for kind, function in several.items()
    }
    if len(several) < 2:
        drawn = {f"{name}.png": picture}
    return [_saved(folder / file, png(partial(_draw, function, result))) for file, function in drawn.items()]


def _draw(function: Callable[..., Axes], result: Result, ax: Axes) -> Axes:
    return function(result, ax=ax)


def _saved(path: Path, content: bytes) -> Path:
    return write_atomically(path, lambda name: Path(name).write_bytes(content))
