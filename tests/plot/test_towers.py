"""Towers in space."""

import matplotlib.pyplot as plt
import pytest
import torch

from interp.plot.style import RED
from interp.plot.towers import towers


def test_the_largest_entries_stand_out() -> None:
    values = torch.zeros(4, 6)
    values[2, 5], values[0, 1] = -9.0, 3.0
    ax = towers(values, ("a", "b", "$c$", "d"), named=1, most=2)
    tall = [line for line in ax.lines if line.get_color() == RED]
    (dims, tokens, heights) = tall[0].get_data_3d()
    assert (len(tall), list(dims), list(tokens), list(heights)) == (1, [5, 5], [2, 2], [0, 9])
    assert [t.get_text() for t in ax.texts] == [r" \$c\$, 5"]
    assert len(ax.lines) == 2


def test_towers_refuse_flat_axes_and_missing_words() -> None:
    with pytest.raises(ValueError, match="projection='3d'"):
        towers(torch.rand(2, 2), ("a", "b"), plt.subplots()[1])
    with pytest.raises(ValueError, match="1 words were given for 2 tokens"):
        towers(torch.rand(2, 2), ("a",))


EXAMPLES = {"towers.towers": lambda examples: (8 * examples.waves(10, 16) ** 6, examples.words)}
