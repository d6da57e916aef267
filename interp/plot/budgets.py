"""The attention budget with sinks counted apart, and the difference that an intervention makes to a budget."""

from matplotlib.axes import Axes

from interp.analysis.budget import ShareChange, SinkShares
from interp.data.colours import SEGMENT_COLOURS
from interp.plot.shares import shares
from interp.plot.style import CYCLE, GREY, axes_or_new, style, whole_ticks


def separated(result: SinkShares, ax: Axes | None = None) -> Axes:
    """Draw the share of image, text and sinks by layer, averaged over the heads."""
    names = [str(name) for name in result.labels["segment"]]
    return shares(result.share.mean(1), names, at=result.layers, ax=ax)


def share_changes(result: ShareChange, ax: Axes | None = None) -> Axes:
    """Draw the change of every share by layer, averaged over heads; the grey line is their sum, the mass added or removed."""
    with style():
        ax = axes_or_new(ax)
        ax.plot(result.layers, result.total.mean(1).tolist(), color=GREY, linewidth=1.2, linestyle="--", label="sum")
        for index, part in enumerate(result.parts):
            colour = SEGMENT_COLOURS.get(part, CYCLE[index % len(CYCLE)])
            ax.plot(
                result.layers,
                result.change[..., index].mean(1).tolist(),
                color=colour,
                marker="o",
                markersize=4,
                label=part,
            )
        ax.set(xlabel="layer", ylabel="change of the share")
        whole_ticks(ax)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
