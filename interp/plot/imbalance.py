"""Attention imbalance between text and image, and of single tokens."""

from matplotlib.axes import Axes

from interp.analysis.imbalance import ModalityImbalances, TokenImbalances
from interp.plot.heatmap import heatmap
from interp.plot.style import BLUE, CYCLE, GREY, ORANGE, axes_or_new, style, whole_ticks, word_label


def modality(result: ModalityImbalances, ax: Axes | None = None) -> Axes:
    """Draw log10 of text over image attention of every head, from the masses averaged over steps; 0 is balance."""
    return heatmap(result.by_head().clamp_min(1e-6).log10(), "log10 (text / image)", layers=result.layers, ax=ax)


def modality_by_step(result: ModalityImbalances, ax: Axes | None = None) -> Axes:
    """Draw the attention to text and to image along the reply, averaged over all heads."""
    with style():
        ax = axes_or_new(ax)
        steps = range(result.text.shape[-1])
        ax.plot(steps, result.text.mean((0, 1)).tolist(), color=BLUE, marker="o", markersize=4, label="text")
        ax.plot(steps, result.image.mean((0, 1)).tolist(), color=ORANGE, marker="s", markersize=4, label="image")
        ax.set(xlabel="step of the reply", ylabel="share of attention", ylim=(0, 1))
        whole_ticks(ax)
        ax.legend()
    return ax


def imbalanced_tokens(result: TokenImbalances, count: int = 12, ax: Axes | None = None) -> Axes:
    """Draw the tokens with the largest imbalance, largest at the top; the grey line is balance."""
    found = result.largest(count)
    with style():
        ax = axes_or_new(ax, (5.0, 0.9 + 0.24 * len(found)))
        names = [f"{word_label(line['token'])}  {line['position']}" for line in found]
        places = range(len(found))
        ax.barh(places, [line["tai"] for line in found], color=CYCLE[0])
        ax.set_yticks(places, names)
        ax.invert_yaxis()
        ax.axvline(1, color=GREY, linewidth=1.0)
        ax.set(xlabel=f"attention share / information share ({result.denominator})", ylabel="token, position")
    return ax
