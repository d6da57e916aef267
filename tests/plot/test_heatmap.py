"""A map of layers and heads."""

import numpy as np
import pytest
import torch

from interp.plot import heatmap


def test_each_cell_holds_its_layer_and_head(ax) -> None:
    values = torch.arange(6.0).view(2, 3)
    assert heatmap(values, "nats", layers=(4, 9), ax=ax) is ax
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), values.numpy())
    assert ax.images[0].origin == "lower"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.figure.axes[1].get_ylabel()) == ("head", "layer", "nats")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["4", "9"]


def test_limits_are_those_given(ax) -> None:
    heatmap(torch.rand(2, 2), "probability", limits=(0.0, 1.0), ax=ax)
    assert ax.images[0].get_clim() == (0, 1)


def test_many_layers_are_not_all_named(ax) -> None:
    heatmap(torch.rand(40, 2), "x", layers=range(40), ax=ax)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert len(names) <= 16
    assert names[:2] == ["0", "3"]


def test_layers_must_be_as_many_as_rows() -> None:
    with pytest.raises(ValueError, match="3 layers are named for 2 rows"):
        heatmap(torch.rand(2, 2), "x", layers=(0, 1, 2))


EXAMPLES = {"heatmap.heatmap": lambda examples: (examples.waves(4, 6), "nats")}
