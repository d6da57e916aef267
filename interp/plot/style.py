"""The style of all plots: colours that are safe for colour-blind readers and grey print, in one context manager, no global settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from matplotlib import rcParams
from matplotlib.axes import Axes

from interp.data.colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SEGMENT_COLOURS, SKY, YELLOW
from interp.data.display import format_token

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
    "format_token",
    "style",
    "whole_ticks",
    "word_label",
]

CYCLE: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SEQUENTIAL: Final = "viridis"
"""Colour map of quantities that start at zero: uniform in lightness, so that grey print keeps the order."""

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
    """Apply the style to new figures and axes inside the block, and restore the settings afterwards.

    Only these settings are restored: the backend of a notebook sets others when it makes the first figure, and later figures are
    not displayed without them, so `matplotlib.rc_context` cannot be used.
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
    """Return a token as readable text for matplotlib: `format_token`, with dollar signs escaped."""
    return format_token(word).replace("$", r"\$")


def whole_ticks(ax: Axes, axis: str = "x") -> None:
    """Restrict the ticks of an axis to integers, for layers, steps and heads."""
    from matplotlib.ticker import MaxNLocator

    getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(integer=True))
