"""A quantity per layer and head that may be negative."""

from collections.abc import Sequence
from typing import Final

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.plot.style import axes_or_new, style, whole_ticks

DIVERGING: Final = "PuOr"
"""Colour map of quantities with a meaningful zero: purple above, orange below, white between; safe for colour-blind readers."""


def signed(
    values: Float[Tensor, "layer head"], label: str, *, layers: Sequence[int] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one cell per layer and head, the first layer at the bottom; white is zero, and the colour scale is symmetric.

    Args:
        values: the quantity; cells that are NaN stay grey.
        label: what it is, with its unit.
        layers: the layers of the rows; 0, 1, ... by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the number of layers differs from that of the rows.
    """
    if layers is not None and len(layers) != values.shape[0]:
        raise ValueError(f"{len(layers)} layers are named for {values.shape[0]} rows")
    with style():
        ax = axes_or_new(ax)
        far = float(values.nan_to_num().abs().max()) or 1.0
        ax.set_facecolor("0.85")
        cells = values.detach().cpu().float().numpy()
        drawn = ax.imshow(cells, origin="lower", aspect="auto", cmap=DIVERGING, vmin=-far, vmax=far)
        ax.set(xlabel="head", ylabel="layer")
        whole_ticks(ax)
        names = list(range(values.shape[0])) if layers is None else list(layers)
        every = -(-len(names) // 16)
        ax.set_yticks(range(0, len(names), every), [str(i) for i in names[::every]])
        ax.figure.colorbar(drawn, ax=ax, label=label)
    return ax
