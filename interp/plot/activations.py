"""The largest entries of the residual stream by layer."""

from matplotlib.axes import Axes

from interp.analysis.massive import MassiveTable
from interp.plot.style import CYCLE, GREY, axes_or_new, style, whole_ticks


def largest(result: MassiveTable, ax: Axes | None = None) -> Axes:
    """Draw the largest absolute entries after every layer and the median; the dotted line is the bound of massive activations.

    References: Sun et al., Massive Activations (2024), figure 4. Differs: no.
    """
    with style():
        ax = axes_or_new(ax)
        layers = list(result.layers)
        for rank, colour in zip(range(min(result.value.shape[1], 3)), CYCLE, strict=False):
            name = ("largest", "second", "third")[rank]
            ax.plot(layers, result.value[:, rank].abs().tolist(), color=colour, marker="o", markersize=4, label=name)
        ax.plot(layers, result.median.tolist(), color=GREY, marker="s", markersize=4, label="median")
        bound = (result.times_median * result.median).clamp_min(result.above)
        ax.plot(layers, bound.tolist(), color=GREY, linestyle=":", label="bound")
        ax.set(xlabel="layer", ylabel="|entry| of the stream", yscale="log")
        whole_ticks(ax)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return ax
