"""The picture of any result."""

from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.budget import SegmentShares
from interp.analysis.sinks import SinkTable
from interp.data.result import Result
from interp.plot.pictures import drawable, functions_for, picture


@final
@dataclass(frozen=True)
class ByHead(Result):
    """A number per layer and head."""

    strength: Float[Tensor, "layer head"]
    layers: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        return "strength"

    @property
    def labels(self) -> dict[str, list]:
        return {"layer": list(self.layers)}


@final
@dataclass(frozen=True)
class ByLayer(Result):
    """A number per layer."""

    entropy: Float[Tensor, " layer"]

    @classmethod
    def summary_field(cls) -> str:
        return "entropy"


@final
@dataclass(frozen=True)
class OneNumber(Result):
    """A number."""

    total: Float[Tensor, ""]

    @classmethod
    def summary_field(cls) -> str:
        return "total"


def test_functions_are_found_by_the_kind_of_their_first_argument() -> None:
    assert set(functions_for(SinkTable)) == {"massive", "received"}
    assert set(functions_for(SegmentShares)) == {"budget"}
    assert functions_for(ByHead) == {}


def test_layers_and_heads_become_a_map(ax) -> None:
    assert picture(ByHead(torch.rand(2, 3), (1, 2)), ax=ax) is ax
    assert ax.images[0].get_array().shape == (2, 3)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "2"]


def test_layers_alone_become_a_line(ax) -> None:
    picture(ByLayer(torch.tensor([1.0, 2.0])), ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 2])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "entropy")


def test_what_cannot_be_drawn_is_said() -> None:
    result = OneNumber(torch.tensor(1.0))
    assert not drawable(result)
    with pytest.raises(ValueError, match=r"no picture for total with axes \(\); result.frame\(\)"):
        picture(result)
