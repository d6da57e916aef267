"""A text with its tokens coloured: by a score, or by the segment they belong to."""

from collections.abc import Sequence

import matplotlib
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor

from interp.data.colours import SEGMENT_COLOURS
from interp.plot.style import GREY, SEQUENTIAL, axes_or_new, style, word_label

ASPECT = 0.62
"""Width of a character of the fixed-width font, as a fraction of its size."""


def coloured_words(
    words: Sequence[str],
    by: Float[Tensor, " token"] | Sequence[str],
    *,
    columns: int = 64,
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Write the tokens on coloured backgrounds, `columns` characters per line.

    Args:
        words: the tokens as text.
        by: a score per token, or the name of its segment.
        columns: characters per line.
        label: what the score is, with its unit.
        ax: where to write; a new figure by default.

    Raises:
        ValueError: the numbers of words and of scores or segments differ.
    """
    if len(words) != len(by):
        raise ValueError(f"{len(by)} colours were given for {len(words)} words")
    cells = _laid_out([word_label(w) for w in words], columns)
    lines = 1 + max((line for _, line, _ in cells), default=0)
    with style():
        ax = axes_or_new(ax, (6.4, 0.5 + 0.26 * lines))
        grounds = _grounds(by, label, ax)
        size = _letter_size(ax, columns, lines)
        for (column, line, text), ground in zip(cells, grounds, strict=True):
            ax.add_patch(Rectangle((column, line + 0.08), len(text) + 0.7, 0.84, facecolor=ground, edgecolor="none"))
            ink = "black" if _lightness(ground) > 0.45 else "white"
            middle = column + (len(text) + 0.7) / 2
            ax.text(middle, line + 0.5, text, size=size, ha="center", va="center", family="monospace", color=ink)
        ax.set(xlim=(0, columns + 1), ylim=(lines, 0))
        ax.set_axis_off()
    return ax


def _laid_out(words: Sequence[str], columns: int) -> list[tuple[float, int, str]]:
    cells, column, line = [], 0.0, 0
    for word in words:
        if column and column + len(word) > columns:
            column, line = 0.0, line + 1
        cells.append((column, line, word))
        column += len(word) + 1
    return cells


def _grounds(by: Tensor | Sequence[str], label: str, ax: Axes) -> list[tuple[float, ...]]:
    if isinstance(by, Tensor):
        scores = by.detach().cpu().float()
        scale = Normalize(min(0.0, float(scores.min())), float(scores.max()) or 1.0)
        shades = matplotlib.cm.ScalarMappable(scale, SEQUENTIAL)
        ax.figure.colorbar(shades, ax=ax, label=label, orientation="horizontal", fraction=0.08, aspect=50)
        return [tuple(shades.to_rgba(v)) for v in scores.tolist()]
    names = list(dict.fromkeys(by))
    handles = [Rectangle((0, 0), 1, 1, facecolor=SEGMENT_COLOURS.get(n, GREY)) for n in names]
    ax.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(names), handlelength=1.0)
    return [matplotlib.colors.to_rgba(SEGMENT_COLOURS.get(n, GREY)) for n in by]


def _letter_size(ax: Axes, columns: int, lines: int) -> float:
    """Return the font size in points at which a line of `columns` fits the axes, and its lines do not touch."""
    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.draw_without_rendering()
    box = ax.get_window_extent()
    inches = 72 / ax.figure.dpi
    return min(box.width * inches / (columns + 1) / ASPECT, 0.62 * box.height * inches / lines, 12.0)


def _lightness(colour: tuple[float, ...]) -> float:
    red, green, blue = colour[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
