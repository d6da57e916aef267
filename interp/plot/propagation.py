"""The token propagation probability along the sequence, and the observed propagation of a prompt."""

from collections.abc import Iterable

from matplotlib.axes import Axes

from interp.analysis.empirical import ObservedPropagation
from interp.analysis.propagation import PropagationCurves
from interp.data.heads import Heads, heads
from interp.plot.heatmap import heatmap
from interp.plot.style import CYCLE, GREY, axes_or_new, style, word_label


def curves(
    result: PropagationCurves, which: Heads | Iterable[tuple[int, int]] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw ρ(θ), the probability that the token at the fraction θ of the sequence is in the linear part of the softmax.

    Args:
        result: the curves.
        which: the heads to highlight; all others are drawn in grey.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a head that was not measured.
    """
    named = heads(which or ())
    missing = [p for p in named if p[0] not in result.layers or p[1] >= result.rho.shape[1]]
    if missing:
        raise ValueError(
            f"heads {missing} were not measured; there are layers {list(result.layers)} with {result.rho.shape[1]} heads each"
        )
    theta = result.theta.tolist()
    with style():
        ax = axes_or_new(ax)
        for own in result.rho.flatten(0, 1):
            ax.plot(theta, own.tolist(), color=GREY, linewidth=0.7, alpha=0.45)
        for index, (layer, head) in enumerate(named):
            line = result.rho[result.layers.index(layer), head]
            ax.plot(theta, line.tolist(), color=CYCLE[index % len(CYCLE)], label=f"layer {layer}, head {head}")
        if not len(named):
            ax.plot(theta, result.rho.mean((0, 1)).tolist(), color=CYCLE[0], label="mean over heads")
        ax.set(xlabel="place θ in the sequence", ylabel="propagation probability ρ", ylim=(0, 1), xlim=(0, 1))
        ax.legend()
    return ax


def observed(result: ObservedPropagation, ax: Axes | None = None) -> Axes:
    """Draw the share of tokens that the actual scores of each head place in the linear part of the softmax."""
    return heatmap(result.share, "share of tokens in the linear part", layers=result.layers, limits=(0.0, 1.0), ax=ax)


def observed_by_token(result: ObservedPropagation, most: int = 30, ax: Axes | None = None) -> Axes:
    """Draw, for the last `most` tokens, the share of heads in which each is in the linear part of the softmax."""
    first = max(len(result.words) - most, 0)
    values = result.by_token[first:].tolist()
    with style():
        ax = axes_or_new(ax, (max(4.0, 0.24 * len(values) + 1), 3.0))
        ax.bar(range(len(values)), values, color=CYCLE[0])
        ax.set_xticks(range(len(values)), [word_label(w) for w in result.words[first:]], rotation=90)
        ax.set(xlabel="token", ylabel="share of heads", ylim=(0, 1))
    return ax
