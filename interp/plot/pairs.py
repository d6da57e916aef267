"""A quantity for every pair of tokens: attention or saliency, from queries to keys."""

from collections.abc import Iterable, Sequence

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.data.colours import SEGMENT_COLOURS
from interp.plot.style import ORANGE, SEQUENTIAL, axes_or_new, style


def pairs(
    values: Float[Tensor, "query key"],
    label: str,
    segments: Sequence[str],
    *,
    queries: Sequence[int] | None = None,
    marked: Iterable[int] = (),
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one cell per query and key, with lines between segments and the segments' colours along the keys.

    The colour scale is that of the square root, so that small values can be distinguished from zero.

    Args:
        values: the quantity, at least 0.
        label: what it is, with its unit.
        segments: the segment name of every key.
        queries: the positions of the query rows; 0, 1, ... by default.
        marked: keys with an arrow head above them, such as sinks.
        limit: the value at and above which the colour is the lightest; the largest value by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the numbers of segments and keys, or of positions and rows, differ.
    """
    positions = list(range(values.shape[0])) if queries is None else list(queries)
    if len(segments) != values.shape[1] or len(positions) != values.shape[0]:
        raise ValueError(
            f"{values.shape[0]} rows and {values.shape[1]} keys were given with {len(positions)} positions and {len(segments)} segments"
        )
    with style():
        ax = axes_or_new(ax, (4.6, 3.8))
        top = None if limit is None else limit**0.5
        cells = values.detach().cpu().float().clamp_min(0).sqrt().numpy()
        drawn = ax.imshow(cells, aspect="auto", cmap=SEQUENTIAL, interpolation="nearest", vmin=0, vmax=top)
        begins = [i for i in range(1, len(segments)) if segments[i] != segments[i - 1]]
        for edge in begins:
            ax.axvline(edge - 0.5, color="white", linewidth=0.5)
            if edge in positions:
                ax.axhline(positions.index(edge) - 0.5, color="white", linewidth=0.5)
        for first, last in zip([0, *begins], [*begins, len(segments)], strict=True):
            ax.plot(
                [first - 0.5, last - 0.5],
                [-0.02, -0.02],
                color=SEGMENT_COLOURS[segments[first]],
                linewidth=3,
                solid_capstyle="butt",
                transform=ax.get_xaxis_transform(),
                clip_on=False,
            )
        for key in marked:
            ax.plot(key, 1.02, "v", color=ORANGE, markersize=6, transform=ax.get_xaxis_transform(), clip_on=False)
        every = -(-len(positions) // 8)
        ax.set_yticks(range(0, len(positions), every), [str(q) for q in positions[::every]])
        ax.set(xlabel="key position", ylabel="query position")
        ax.tick_params(axis="x", pad=6)
        above = limit is not None and float(values.max()) > limit
        ax.figure.colorbar(drawn, ax=ax, label=f"√ {label}", extend="max" if above else "neither")
    return ax
