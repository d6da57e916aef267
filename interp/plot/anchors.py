"""Visual anchors: where heads attend on the image, and how far later layers drift from there."""

from typing import Any

from matplotlib.axes import Axes

from interp.analysis.anchors import VisualDrift
from interp.data.layout import Layout
from interp.plot.heatmap import heatmap
from interp.plot.overlay import overlay
from interp.plot.style import BLUE, GREY, ORANGE, axes_or_new, style, whole_ticks


def drift(result: VisualDrift, ax: Axes | None = None) -> Axes:
    """Draw the correlation of every layer's map with both visual anchors, averaged over the emitting rows, with their range."""
    with style():
        ax = axes_or_new(ax)
        layers = list(result.layers)
        for values, name, colour, line in (
            (result.r_positive, f"positive visual anchor (layer {result.middle})", BLUE, "-"),
            (result.r_negative, f"negative visual anchor (layer {result.first})", ORANGE, "--"),
        ):
            ax.fill_between(
                layers, values.amin(1).tolist(), values.amax(1).tolist(), color=colour, alpha=0.15, linewidth=0
            )
            ax.plot(layers, values.mean(1).tolist(), line, color=colour, marker="o", markersize=4, label=name)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set(xlabel="layer", ylabel="Pearson's r with the visual anchor", ylim=(-1.05, 1.05))
        whole_ticks(ax)
        ax.legend()
    return ax


def entropy(result: VisualDrift, ax: Axes | None = None) -> Axes:
    """Draw the entropy of the normalised map over the image in every layer, averaged over the emitting rows."""
    with style():
        ax = axes_or_new(ax)
        ax.plot(list(result.layers), result.entropy.mean(1).tolist(), color=BLUE, marker="o", markersize=4)
        ax.set(xlabel="layer", ylabel="entropy over image tokens (nats)", ylim=(0, None))
        whole_ticks(ax)
    return ax


def visual_heads(result: VisualDrift, ax: Axes | None = None) -> Axes:
    """Draw Φ of every head; + marks the sensitive heads of a layer, - the insensitive ones."""
    ax = heatmap(result.mass, "attention to the image, Φ", layers=result.layers, ax=ax)
    for group, sign in ((result.sensitive, "+"), (result.insensitive, "_")):
        for row, head in group.nonzero().tolist():
            ax.plot(head, row, marker=sign, color="white", markersize=5, markeredgewidth=1.2)
    return ax


def visual_anchor(
    image: Any,
    result: VisualDrift,
    layout: Layout,
    which: str = "positive",
    query: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a visual anchor on the image.

    Args:
        image: the image the prompt was made from.
        result: what to draw.
        layout: the prompt's layout.
        which: `positive` or `negative`.
        query: the position of the row; the last by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: an unknown visual anchor, or a row that was not measured.
    """
    anchors = {"positive": result.positive_anchor, "negative": result.negative_anchor}
    row = result.queries[-1] if query is None else query
    if which not in anchors or row not in result.queries:
        raise ValueError(
            f"which is 'positive' or 'negative' and query one of {list(result.queries)}, got {which!r} and {row}"
        )
    values = anchors[which][result.queries.index(row)]
    return overlay(image, values, layout, label=f"attention, {which} visual anchor", ax=ax)
