"""Attention sinks and the massive activations they carry."""

import torch
from matplotlib.axes import Axes

from interp.analysis.sinks import SinkTable
from interp.plot.style import CYCLE, GREY, SEQUENTIAL, axes_or_new, style, whole_ticks, word_label


def received(result: SinkTable, most: int = 14, ax: Axes | None = None) -> Axes:
    """Draw α_k, the mean attention that a token receives from the rows that can see it, by layer, for the largest α_k.

    Tokens are in the order of the conversation, with their position; sinks are marked with a star.
    """
    with style():
        mean = result.received.mean(1)
        top = sorted(mean.mean(0).topk(min(most, mean.shape[1])).indices.tolist())
        ax = axes_or_new(ax, (5.0, 0.9 + 0.24 * len(top)))
        drawn = ax.imshow(mean[:, top].T.float().numpy(), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
        stars = ["★ " if p in result.positions else "" for p in top]
        ax.set_yticks(
            range(len(top)), [f"{s}{word_label(result.words[p])}  {p}" for s, p in zip(stars, top, strict=True)]
        )
        every = -(-len(result.layers) // 16)
        ax.set_xticks(range(0, len(result.layers), every), [str(i) for i in result.layers[::every]])
        ax.set(xlabel="layer", ylabel="token, position")
        ax.figure.colorbar(drawn, ax=ax, label="attention received, α (0 to 1)")
    return ax


def massive(result: SinkTable, largest: int = 3, ax: Axes | None = None) -> Axes:
    """Draw the largest absolute entry of the residual stream by layer, for the tokens with the largest ones, and the median.

    The dotted line is the bound above which an activation is massive: the larger of the two bounds of the analysis.

    References: Sun et al., Massive Activations in Large Language Models (2024), figure 2. Differs: one line per
    token instead of one per rank.
    """
    with style():
        ax = axes_or_new(ax)
        layers = list(result.layers)
        ratio = result.massive / result.median[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        top = ratio.amax(0).topk(min(largest, ratio.shape[1])).indices.tolist()
        for position, colour in zip(top, CYCLE, strict=False):
            name = f"{word_label(result.words[position])} at {position}"
            ax.plot(layers, result.massive[:, position].tolist(), marker="o", markersize=4, color=colour, label=name)
        ax.plot(layers, result.median.tolist(), color=GREY, marker="s", markersize=4, label="median entry")
        bound = (result.times_median * result.median).clamp_min(result.above)
        ax.plot(layers, bound.tolist(), color=GREY, linestyle=":", label="bound")
        ax.set(xlabel="layer", ylabel="largest |entry| of the stream", yscale="log")
        whole_ticks(ax)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.2)
    return ax
