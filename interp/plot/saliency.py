"""Saliency: between tokens, from segment to segment, and of every token of a reply."""

import torch
from matplotlib.axes import Axes

from interp.analysis.budget import SEGMENTS
from interp.analysis.saliency import SaliencyFlow, SaliencyMaps, TokenSaliency
from interp.data.colours import SEGMENT_COLOURS
from interp.plot.pairs import pairs
from interp.plot.style import CYCLE, GREY, axes_or_new, style, whole_ticks, word_label


def saliency_map(result: SaliencyMaps, layer: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the saliency of every pair of tokens, averaged over heads, with lines between segments.

    The colour scale is that of the square root, so that small values can be distinguished from zero.

    Args:
        result: what to draw.
        layer: one layer; the mean over all by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a layer that was not measured.
    """
    if layer is not None and layer not in result.layers:
        raise ValueError(f"layer {layer} was not measured; there are {list(result.layers)}")
    whole = result.saliency.mean(1)
    cells = whole.mean(0) if layer is None else whole[result.layers.index(layer)]
    unit = "" if result.norm == "none" else " (√ nats)"
    return pairs(cells, f"saliency{unit}", result.segments, queries=result.queries, ax=ax)


def flow(result: SaliencyFlow, ax: Axes | None = None) -> Axes:
    """Draw the saliency from each segment into USER and RESPONSE by layer; solid lines end in the reply, dashed in the prompt."""
    names = [s.name for s in SEGMENTS]
    with style():
        ax = axes_or_new(ax)
        for into, line in (("RESPONSE", "-"), ("USER", "--")):
            for index, name in enumerate(names):
                values = result.flow[:, names.index(into), index]
                if bool(values.any()):
                    label = f"{name.lower()} → {into.lower()}"
                    ax.plot(
                        result.layers,
                        values.tolist(),
                        line,
                        color=SEGMENT_COLOURS[name],
                        marker="o",
                        markersize=3,
                        label=label,
                    )
        ax.set(xlabel="layer", ylabel="saliency per pair of tokens", ylim=(0, None))
        whole_ticks(ax)
        if ax.lines:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def scores(result: TokenSaliency, key: str = "own", ax: Axes | None = None) -> Axes:
    """Draw one bar per token of the reply: its saliency score averaged over layers.

    Args:
        result: what to draw.
        key: `own`, `previous` or `output`, see `TokenSaliency.score`.
        ax: where to draw; a new figure by default.
    """
    with style():
        ax = axes_or_new(ax, (max(3.2, 0.32 * len(result.reply)), 2.8))
        ax.bar(range(len(result.reply)), result.score(key).tolist(), color=CYCLE[0])
        ax.set_xticks(range(len(result.reply)), [word_label(w) for w in result.reply], rotation=60, ha="right")
        what = {"own": "last token", "previous": "last token but one", "output": "reply so far"}[key]
        ax.set(ylabel=f"saliency of the {what}")
    return ax


def sources(result: TokenSaliency, ax: Axes | None = None) -> Axes:
    """Draw the share of each segment in the saliency of every token of the reply, averaged over layers."""
    parts = result.source.mean(0)
    parts = parts / parts.sum(-1, keepdim=True).clamp_min(torch.finfo(parts.dtype).tiny)
    with style():
        ax = axes_or_new(ax, (max(3.6, 0.32 * len(result.reply) + 1.2), 2.8))
        places, bottom = range(len(result.reply)), torch.zeros(len(parts))
        for index, segment in enumerate(SEGMENTS):
            colour = SEGMENT_COLOURS.get(segment.name, GREY)
            ax.bar(places, parts[:, index].tolist(), bottom=bottom.tolist(), color=colour, label=segment.name)
            bottom = bottom + parts[:, index]
        ax.set_xticks(places, [word_label(w) for w in result.reply], rotation=60, ha="right")
        ax.set(ylabel="share of saliency", ylim=(0, 1))
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
