"""Massive activations in pictures."""

import numpy as np
import torch

from interp.analysis.massive import MassiveTable
from interp.plot.activations import largest


def test_ranks_are_lines_beside_the_median_and_the_bound(ax) -> None:
    value = torch.tensor([[5.0, -4.0], [-900.0, 2.0]])
    where = torch.zeros(2, 2).long()
    largest(MassiveTable(value, where, where, torch.tensor([0.01, 0.5]), (0, 1), ("a",), 100.0, 1000.0), ax=ax)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["largest"], [5, 900])
    np.testing.assert_allclose(lines["second"], [4, 2])
    np.testing.assert_allclose(lines["bound"], [100, 500])


def massive_table() -> MassiveTable:
    where = torch.zeros(4, 3).long()
    value = torch.tensor([[3.0, 2, 1], [900, 5, 4], [950, 6, 5], [40, 30, 20]])
    return MassiveTable(value, where, where, torch.tensor([0.01, 0.5, 0.6, 0.8]), (0, 1, 2, 3), ("a",), 100.0, 1000.0)


EXAMPLES = {"activations.largest": lambda examples: (massive_table(),)}
