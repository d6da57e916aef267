"""The sources of a row across all layers: attention rollout and gradient-weighted relevance."""

from typing import Any

from matplotlib.axes import Axes

from interp.analysis.rollout import Roots
from interp.data.layout import Layout
from interp.plot.overlay import overlay
from interp.plot.style import CYCLE, axes_or_new, style, word_label


def roots(result: Roots, count: int = 12, ax: Axes | None = None) -> Axes:
    """Draw the largest sources of the target row, largest at the top; the row itself is left out.

    Args:
        result: what to draw.
        count: the number of tokens.
        ax: where to draw; a new figure by default.
    """
    row = result.target_row
    values = result.share[-1, result.queries.index(row)].clone()
    values[row] = 0
    top = values.topk(min(count, len(values))).indices.tolist()
    with style():
        ax = axes_or_new(ax, (4.6, 0.9 + 0.24 * len(top)))
        ax.barh(range(len(top)), values[top].tolist(), color=CYCLE[0])
        ax.set_yticks(range(len(top)), [f"{word_label(result.words[p])}  {p}" for p in top])
        ax.invert_yaxis()
        ax.set(xlabel=f"{result.kind} of row {row}", ylabel="token, position")
    return ax


def roots_on_image(
    image: Any,
    result: Roots,
    layout: Layout,
    query: int | None = None,
    layer: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the sources of one row on the image.

    Args:
        image: the image the prompt was made from.
        result: what to draw.
        layout: the prompt's layout.
        query: the position of the row, see `Roots.on_image`.
        layer: the layer after which to read; the last by default.
        ax: where to draw; a new figure by default.
    """
    return overlay(image, result.on_image(query, layer), layout, label=result.kind, ax=ax)
