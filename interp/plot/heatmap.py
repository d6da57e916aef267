"""A quantity per layer and head."""

from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.plot.style import SEQUENTIAL, axes_or_new, style, whole_ticks


def heatmap(
    values: Float[Tensor, "layer head"],
    label: str,
    *,
    layers: Sequence[int] | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one cell per layer and head, the first layer at the bottom.

    Args:
        values: the quantity.
        label: what it is, with its unit.
        layers: the layers of the rows; 0, 1, ... by default.
        limits: values of the darkest and the lightest colour; those of the array by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the number of layers differs from that of the rows.
    """
    if layers is not None and len(layers) != values.shape[0]:
        raise ValueError(f"{len(layers)} layers are named for {values.shape[0]} rows")
    with style():
        ax = axes_or_new(ax)
        low, high = limits or (None, None)
        drawn = ax.imshow(
            values.detach().cpu().float().numpy(), origin="lower", aspect="auto", cmap=SEQUENTIAL, vmin=low, vmax=high
        )
        ax.set(xlabel="head", ylabel="layer")
        whole_ticks(ax)
        if layers is not None:
            every = -(-len(layers) // 16)
            ax.set_yticks(range(0, len(layers), every), [str(i) for i in layers[::every]])
        else:
            whole_ticks(ax, "y")
        ax.figure.colorbar(drawn, ax=ax, label=label)
    return ax
