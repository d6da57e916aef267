"""Rates with intervals."""

import pytest

from interp.plot import rates


def test_each_line_is_an_interval_with_its_value(ax) -> None:
    assert rates(["before", "after"], [0.5, 0.25], [(0.4, 0.6), (0.1, 0.5)], "accuracy", ax=ax) is ax
    bars, dots = ax.lines[0:4:2], ax.lines[1:4:2]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.4, 0.6], [0.1, 0.5]]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.5, 0.25]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["before", "after"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first line at the top
    assert ax.get_xlabel() == "accuracy"


def test_names_values_and_intervals_belong_together() -> None:
    with pytest.raises(ValueError, match="1 names, 2 values and 0 intervals"):
        rates(["a"], [0.1, 0.2], [], "x")


EXAMPLES = {"rates.rates": lambda examples: (["before", "after"], [0.5, 0.25], [(0.4, 0.6), (0.1, 0.5)], "accuracy")}
