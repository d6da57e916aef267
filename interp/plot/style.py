"""How every picture looks: colours that survive colour blindness and grey print, one context manager, no global settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from matplotlib import rcParams
from matplotlib.axes import Axes

from interp.data.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SEGMENT_COLOURS, SKY, YELLOW
from interp.data.display import visible

__all__ = [
    "BLUE",
    "CYCLE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "RED",
    "SEGMENT_COLOURS",
    "SEQUENTIAL",
    "SKY",
    "YELLOW",
    "axes_or_new",
    "style",
    "visible",
    "whole_ticks",
    "word_label",
]

CYCLE: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SEQUENTIAL: Final = "viridis"
"""Colour map of quantities that start at zero: even in lightness, so that grey print keeps the order."""

_SETTINGS: Final[Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    "lines.linewidth": 1.8,
}


@contextmanager
def style() -> Iterator[None]:
    """While open, new figures and axes look like this package's; afterwards these settings are as they were.

    Only these: a notebook's backend changes others when the first figure is made, and those must stay or no later one is shown.
    """
    before = {name: rcParams[name] for name in _SETTINGS}
    rcParams.update(_SETTINGS)
    try:
        yield
    finally:
        rcParams.update(before)


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (5.0, 3.4)) -> Axes:
    """Return the axes given, or those of a new figure of `size` inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def word_label(word: str) -> str:
    """Return a token as it can be read in a picture: `visible`, and nothing taken for mathematics."""
    return visible(word).replace("$", r"\$")


def whole_ticks(ax: Axes, axis: str = "x") -> None:
    """Put the ticks of an axis at whole numbers: layers, steps and heads have no halves."""
    from matplotlib.ticker import MaxNLocator

    getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(integer=True))
