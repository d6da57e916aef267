"""The logit lens, and the direct contribution of each part to a logit."""

from matplotlib.axes import Axes

from interp.analysis.readouts import LensTable, LogitParts
from interp.plot.signed import signed
from interp.plot.style import CYCLE, GREY, SEQUENTIAL, axes_or_new, style, whole_ticks, word_label


def lens(result: LensTable, most: int = 24, ax: Axes | None = None) -> Axes:
    """Draw the probability of the next token, decoded after every layer, at the last positions.

    Args:
        result: what to draw.
        most: the largest number of positions.
        ax: where to draw; a new figure by default.
    """
    known = [i for i in range(len(result.positions)) if not bool(result.following[:, i].isnan().any())][-most:]
    with style():
        ax = axes_or_new(ax, (max(3.6, 0.3 * len(known) + 1.4), 3.4))
        cells = result.following[:, known].exp().numpy()
        drawn = ax.imshow(cells, origin="lower", aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set_xticks(range(len(known)), [word_label(result.words[i]) for i in known], rotation=60, ha="right")
        every = -(-len(result.layers) // 16)
        ax.set_yticks(range(0, len(result.layers), every), [str(i) for i in result.layers[::every]])
        ax.set(xlabel="token read at", ylabel="layer")
        ax.figure.colorbar(drawn, ax=ax, label="p(token that follows)")
    return ax


def head_parts(result: LogitParts, ax: Axes | None = None) -> Axes:
    """Draw the direct contribution of every head to the logits, averaged over the tokens."""
    return signed(result.heads.mean(-1), "direct effect on the logit", layers=result.layers, ax=ax)


def layer_parts(result: LogitParts, ax: Axes | None = None) -> Axes:
    """Draw the direct contributions of the heads, the MLP and the rest of every layer to the logits, averaged over the tokens."""
    parts = {"heads": result.heads.sum(1), "MLP": result.mlp, "rest": result.rest}
    with style():
        ax = axes_or_new(ax)
        for (name, values), colour, line in zip(parts.items(), CYCLE, ("-", "--", ":"), strict=False):
            ax.plot(result.layers, values.mean(-1).tolist(), line, color=colour, marker="o", markersize=4, label=name)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set(xlabel="layer", ylabel="direct effect on the logit")
        whole_ticks(ax)
        ax.legend()
    return ax
