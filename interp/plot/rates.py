"""Rates with their intervals, one line each: before and after, or one method next to another."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from interp.plot.style import BLUE, GREY, axes_or_new, style


def rates(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a dot and its interval per name, the first at the top; a line marks the first one's value.

    Args:
        names: the names of the rates.
        values: the rates, in [0, 1].
        intervals: low and high end of each.
        label: what the rates measure.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the numbers of names, values and intervals differ.
    """
    if not len(names) == len(values) == len(intervals):
        raise ValueError(
            f"{len(names)} names, {len(values)} values and {len(intervals)} intervals were given; they belong together"
        )
    with style():
        ax = axes_or_new(ax, (5.0, 0.9 + 0.32 * len(names)))
        for line, (value, (low, high)) in enumerate(zip(values, intervals, strict=True)):
            colour = GREY if line == 0 else BLUE
            ax.plot([low, high], [line, line], color=colour, linewidth=2.5, solid_capstyle="butt")
            ax.plot([value], [line], "o", color=colour, markersize=6)
        if values:
            ax.axvline(values[0], color=GREY, linewidth=0.8, linestyle=":")
        ax.set_yticks(range(len(names)), list(names))
        ax.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), xlabel=label)
    return ax
