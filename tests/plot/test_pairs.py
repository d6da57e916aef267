"""Quantities of pairs of tokens in pictures."""

import numpy as np
import pytest
import torch

from interp.plot.pairs import pairs

SEGMENTS = ("SYSTEM", "IMAGE", "IMAGE", "USER", "RESPONSE")


def test_a_cell_is_the_root_of_its_value_and_segments_are_parted(ax) -> None:
    values = torch.arange(10.0).reshape(2, 5)
    pairs(values, "attention", SEGMENTS, queries=(3, 4), marked=(0,), limit=16.0, ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), values.sqrt(), rtol=1e-6)
    assert ax.images[0].get_clim() == (0.0, 4.0)
    bands, marks = ([line for line in ax.lines if line.get_marker() == m] for m in ("None", "v"))
    assert [tuple(m.get_xdata()) for m in marks] == [(0,)]
    along = [line for line in bands if set(line.get_ydata()) == {-0.02}]
    assert [tuple(line.get_xdata()) for line in along] == [(-0.5, 0.5), (0.5, 2.5), (2.5, 3.5), (3.5, 4.5)]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["3", "4"]


def test_every_key_needs_a_segment() -> None:
    with pytest.raises(ValueError, match="2 rows and 5 keys were given with 2 positions and 4 segments"):
        pairs(torch.rand(2, 5), "attention", SEGMENTS[1:])


EXAMPLES = {"pairs.pairs": lambda examples: (examples.waves(10, 10).tril(), "attention", examples.segments)}
