"""A quantity that may be negative."""

import math

import numpy as np
import pytest
import torch

from interp.plot.signed import signed


def test_white_is_zero_and_both_colours_reach_equally_far(ax) -> None:
    signed(torch.tensor([[0.5, -2.0], [math.nan, 0.0]]), "effect", layers=(3, 4), ax=ax)
    image = ax.images[0]
    assert image.get_clim() == (-2.0, 2.0)
    np.testing.assert_allclose(image.cmap(image.norm(0.0))[:3], (1, 1, 1), atol=0.05)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["3", "4"]


def test_all_zero_can_be_drawn(ax) -> None:
    assert signed(torch.zeros(2, 2), "effect", ax=ax).images[0].get_clim() == (-1.0, 1.0)


def test_every_row_needs_its_layer() -> None:
    with pytest.raises(ValueError, match="3 layers are named for 2 rows"):
        signed(torch.zeros(2, 2), "effect", layers=(1, 2, 3))


EXAMPLES = {"signed.signed": lambda examples: (examples.waves(4, 6) - 0.4, "effect")}
