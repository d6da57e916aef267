"""Budgets with sinks apart, and changes of budgets."""

import numpy as np
import torch
from matplotlib.colors import to_hex

import interp.plot
from interp.analysis.budget import SegmentShares, SinkShares, share_change
from interp.plot import SEGMENT_COLOURS
from interp.plot.budgets import separated, share_changes
from interp.plot.pictures import picture


def test_sinks_are_an_area_of_their_own(ax) -> None:
    separated(SinkShares(torch.tensor([[[0.2, 0.3, 0.5]], [[0.1, 0.1, 0.8]]]), (0, 1), (0,)), ax=ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["SINK", "TEXT", "IMAGE"]
    assert to_hex(ax.collections[2].get_facecolor()[0]).upper() == SEGMENT_COLOURS["SINK"]


def test_changes_are_lines_with_their_sum(ax) -> None:
    before, after = (
        SegmentShares(torch.tensor([[s, s], [s, s]]), (2, 3)) for s in ([0.1, 0.4, 0.5, 0.0], [0.2, 0.2, 0.6, 0.1])
    )
    result = share_change(before, after)
    share_changes(result, ax=ax)
    assert [line.get_label() for line in ax.lines] == ["sum", "SYSTEM", "IMAGE", "USER", "RESPONSE"]
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines], [0.1, 0.1, -0.2, 0.1, 0.1], atol=1e-6)
    assert ax.lines[2].get_color() == SEGMENT_COLOURS["IMAGE"]
    assert len(picture(result).lines) == 5
    assert callable(interp.plot.budget)


def share_change_of(waves):
    before, after = ((3 * waves(4, 2, 4, start=start)).softmax(-1) for start in (0.0, 1.0))
    return share_change(SegmentShares(before, (0, 1, 2, 3)), SegmentShares(after, (0, 1, 2, 3)))


EXAMPLES = {
    "budgets.separated": lambda examples: (SinkShares((3 * examples.waves(4, 2, 3)).softmax(-1), (0, 1, 2, 3), (0,)),),
    "budgets.share_changes": lambda examples: (share_change_of(examples.waves),),
}
