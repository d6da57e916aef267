"""How evenly every head spreads its attention."""

from matplotlib.axes import Axes

from interp.analysis.distribution import AttentionDistribution
from interp.plot.heatmap import heatmap
from interp.plot.style import CYCLE, axes_or_new, style


def distribution(result: AttentionDistribution, ax: Axes | None = None) -> Axes:
    """Draw the mean entropy of every head's rows in nats."""
    return heatmap(result.entropy, "entropy (nats)", layers=result.layers, ax=ax)


def distribution_variance(result: AttentionDistribution, ax: Axes | None = None) -> Axes:
    """Draw every head at its entropy and variance, coloured by layer: how good a proxy the one is for the other."""
    with style():
        ax = axes_or_new(ax, (4.6, 3.4))
        layers = [[layer] * result.entropy.shape[1] for layer in result.layers]
        colours = [x for row in layers for x in row]
        drawn = ax.scatter(
            result.entropy.flatten().tolist(), result.variance.flatten().tolist(), c=colours, cmap="viridis", s=16
        )
        if float(result.variance.max()) > 0:
            positive = result.variance[result.variance > 0]
            ax.set(yscale="log", ylim=(float(positive.min()) / 2, float(positive.max()) * 2))
        ax.set(xlabel="entropy (nats)", ylabel="variance σ²")
        ax.figure.colorbar(drawn, ax=ax, label="layer")
        ax.margins(x=0.05)
    return ax


def distribution_correlation(result: AttentionDistribution, ax: Axes | None = None) -> Axes:
    """Draw by layer the rank correlation of variance and entropy over rows, the mean over heads, and over heads."""
    with style():
        ax = axes_or_new(ax)
        ax.plot(result.layers, result.correlation.nanmean(1).tolist(), color=CYCLE[0], marker="o", label="over rows")
        ax.plot(result.layers, result.across.tolist(), color=CYCLE[1], marker="s", label="over heads")
        ax.set(xlabel="layer", ylabel="rank correlation", ylim=(-1.05, 1.05))
        ax.legend()
    return ax
