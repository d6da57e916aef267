"""The effect of erasing heads on a reply, exact and to first order."""

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.analysis.sensitivity import Erasure, FirstOrder, Sensitivity
from interp.plot.signed import signed
from interp.plot.style import BLUE, CYCLE, GREY, ORANGE, axes_or_new, style


def erasure(result: Erasure, ax: Axes | None = None) -> Axes:
    """Draw the mean ΔP of each head over the tokens of the reply; heads that were left out are grey."""
    return signed(result.change().mean(-1), f"ΔP, erased at {result.at}", ax=ax)


def first_order(result: FirstOrder, ax: Axes | None = None) -> Axes:
    """Draw the first-order estimate of Δ ln p of each head, averaged over the tokens of the reply."""
    return signed(result.effect.mean(-1), "first-order Δ ln p (nats)", layers=result.layers, ax=ax)


def effect_sizes(result: Sensitivity, ax: Axes | None = None) -> Axes:
    """Draw E_h of every head: positive if it supports hallucinated tokens more than correct ones."""
    ax = signed(result.effect_size, "effect size $E_h$", ax=ax)
    ax.set_title(f"n = {result.n_hallucinated} hallucinated, {result.n_correct} correct", loc="left")
    return ax


def strongest(result: Sensitivity, count: int = 12, ax: Axes | None = None) -> Axes:
    """Draw S_h of the heads with the largest |E_h|, with bootstrap intervals; filled where the false discovery rate is below 5 %."""
    flat = result.effect_size.abs().flatten()
    order = flat.argsort(descending=True, stable=True)[:count].tolist()
    width = result.score.shape[1]
    with style():
        ax = axes_or_new(ax, (4.6, 0.9 + 0.24 * len(order)))
        for place, index in enumerate(order):
            score, low, high, q = (
                float(x.flatten()[index]) for x in (result.score, result.low, result.high, result.q_value)
            )
            ax.plot([low, high], [place, place], color=GREY, linewidth=1.2)
            colour = BLUE if score > 0 else ORANGE
            ax.plot(score, place, "o", color=colour, markerfacecolor=colour if q < 0.05 else "white")
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.set_yticks(range(len(order)), [f"{i // width}.{i % width}" for i in order])
        ax.invert_yaxis()
        ax.set(xlabel=f"$S_h$ ({result.unit.replace('_', '-')})", ylabel="layer.head")
    return ax


def estimates(
    exact: Float[Tensor, "layer head token"], estimate: Float[Tensor, "layer head token"], ax: Axes | None = None
) -> Axes:
    """Draw the first-order estimate of every head and token against the exact change; on the grey line they agree.

    Args:
        exact: from `Erasure.change`.
        estimate: from `FirstOrder.change`, in the same unit.
        ax: where to draw; a new figure by default.
    """
    with style():
        ax = axes_or_new(ax, (3.8, 3.6))
        known = exact.isfinite()
        a, b = exact[known].tolist(), estimate[known].tolist()
        ax.plot(a, b, ".", markersize=3, alpha=0.5, color=CYCLE[0])
        ends = [min(a, default=0.0), max(a, default=1.0)]
        ax.plot(ends, ends, color=GREY, linewidth=0.8)
        ax.set(xlabel="exact change", ylabel="first-order estimate")
    return ax
