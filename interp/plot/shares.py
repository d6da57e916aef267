"""Shares of attention: stacked areas that sum to one, over layers or along a reply."""

from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.analysis.budget import SegmentShares
from interp.data.colours import SEGMENT_COLOURS
from interp.plot.style import CYCLE, axes_or_new, style, whole_ticks


def shares(
    values: Float[Tensor, "step segment"],
    names: Sequence[str],
    *,
    along: str = "layer",
    at: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of every part as a stacked area along layers or steps.

    Args:
        values: shares in [0, 1], which sum to one over the last axis.
        names: of the parts; segments have fixed colours.
        along: the name of the first axis.
        at: its values; 0, 1, ... by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the numbers of names and parts differ.
    """
    if len(names) != values.shape[1]:
        raise ValueError(f"{len(names)} names were given for {values.shape[1]} parts")
    with style():
        ax = axes_or_new(ax)
        where = list(range(values.shape[0])) if at is None else list(at)
        heights = values.detach().cpu().float().numpy()
        colours = [SEGMENT_COLOURS.get(name, CYCLE[i % len(CYCLE)]) for i, name in enumerate(names)]
        ax.stackplot(where, heights.T, colors=colours, labels=list(names), linewidth=0.6, edgecolor="white")
        ax.set(xlabel=along, ylabel="share of attention", ylim=(0, 1), xlim=(where[0], max(where[-1], where[0] + 1e-9)))
        whole_ticks(ax)
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    return ax


def budget(result: SegmentShares, ax: Axes | None = None) -> Axes:
    """Draw the share of every segment by layer, averaged over the heads."""
    names = [str(name) for name in result.labels["segment"]]
    return shares(result.share.mean(1), names, at=result.layers, ax=ax)
