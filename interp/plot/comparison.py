"""A score of hallucinated tokens compared with that of correct ones."""

from matplotlib.axes import Axes

from interp.analysis.statistics import Comparison
from interp.plot.style import BLUE, GREY, RED, axes_or_new, style


def distributions(result: Comparison, label: str = "score", ax: Axes | None = None) -> Axes:
    """Draw the empirical distribution function of the score in both groups; the title has the AUROC and its interval.

    Args:
        result: what to draw.
        label: what the score is, with its unit.
        ax: where to draw; a new figure by default.
    """
    groups = {"hallucinated": (result.hallucinated, RED, "--"), "correct": (~result.hallucinated, BLUE, "-")}
    with style():
        ax = axes_or_new(ax)
        for name, (mask, colour, line) in groups.items():
            values = result.score[mask]
            if len(values):
                ax.ecdf(values.numpy(), color=colour, linestyle=line, label=f"{name} (n = {len(values)})")
        if result.auroc is None or result.auroc_interval is None:
            ax.set_title(f"n = {result.n_hallucinated} hallucinated, {result.n_correct} correct")
        else:
            low, high = result.auroc_interval
            ax.set_title(f"AUROC {result.auroc:.2f} [{low:.2f}, {high:.2f}]")
        ax.set(xlabel=label, ylabel="share of tokens", ylim=(0, 1))
        if ax.lines:
            ax.legend()
    return ax


def hallucination(result: Comparison, label: str = "score", ax: Axes | None = None) -> Axes:
    """Draw P(hallucinated | score) over ranges of the score, with Wilson's intervals; the dotted line is the overall share.

    Args:
        result: what to draw.
        label: what the score is, with its unit.
        ax: where to draw; a new figure by default.
    """
    with style():
        ax = axes_or_new(ax)
        for low, high, n, hits, at_least, at_most in result.bins:
            centre = (low + high) / 2
            rate = hits / n if n else 0.0
            bounds = [[max(rate - at_least, 0.0)], [max(at_most - rate, 0.0)]]
            ax.errorbar(
                centre, rate, xerr=(high - low) / 2, yerr=bounds, color=RED, marker="o", markersize=4, capsize=2
            )
        total = result.n_hallucinated + result.n_correct
        if total:
            ax.axhline(result.n_hallucinated / total, color=GREY, linestyle=":")
        ax.set(xlabel=label, ylabel="P(hallucinated)", ylim=(0, 1))
    return ax
