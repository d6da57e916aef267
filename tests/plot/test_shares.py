"""Shares of attention as stacked areas."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from interp.analysis.budget import SegmentShares
from interp.plot import SEGMENT_COLOURS, budget, shares


def heights(ax) -> list[float]:
    """Return the height of every area at the first place of the axis."""
    paths = [area.get_paths()[0].vertices for area in ax.collections]
    first = [p[p[:, 0] == p[:, 0].min()] for p in paths]
    return [float(v[:, 1].max() - v[:, 1].min()) for v in first]


def test_areas_have_the_heights_of_the_shares_and_the_colours_of_the_segments(ax) -> None:
    values = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    assert shares(values, ("SINK", "IMAGE", "USER"), along="reply token", ax=ax) is ax
    np.testing.assert_allclose(heights(ax), [0.1, 0.2, 0.7], atol=1e-6)
    assert [to_hex(a.get_facecolor()[0]).upper() for a in ax.collections] == [
        SEGMENT_COLOURS[n] for n in ("SINK", "IMAGE", "USER")
    ]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_ylim()) == ("reply token", "share of attention", (0, 1))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["USER", "IMAGE", "SINK"]  # as they lie


def test_a_budget_is_averaged_over_heads_and_drawn_at_its_layers(ax) -> None:
    share = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]], [[0.2, 0.2, 0.2, 0.4], [0.2, 0.2, 0.2, 0.4]]])
    budget(SegmentShares(share, (5, 6)), ax=ax)
    np.testing.assert_allclose(heights(ax), [0.25, 0.75, 0.0, 0.0], atol=1e-6)
    assert ax.get_xlim() == (5, 6)


def test_one_name_a_part() -> None:
    with pytest.raises(ValueError, match="2 names were given for 3 parts"):
        shares(torch.rand(2, 3), ("SINK", "IMAGE"))


EXAMPLES = {
    "shares.shares": lambda examples: (torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]), ("SINK", "IMAGE", "USER")),
    "shares.budget": lambda examples: (SegmentShares((3 * examples.waves(4, 2, 4)).softmax(-1), (0, 1, 2, 3)),),
}
