import sys
from dataclasses import dataclass
from typing import final

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.data.result import AXES, Result, check_finite


@final
@dataclass(frozen=True)
class Table(Result):
    mass: Float[Tensor, "layer head"]
    place: Int[Tensor, " layer"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    bound: float = 0.5

    @classmethod
    def summary_field(cls):
        return "mass"

    @property
    def labels(self):
        return {"layer": list(self.layers)}


@final
@dataclass(frozen=True)
class Bare(Result):
    mass: Float[Tensor, " head"]

    @classmethod
    def summary_field(cls):
        return "mass"


TABLE = Table(
    torch.tensor([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]]), torch.tensor([7, 8]), (3, 9), ("a", "b"), ((1, 2), (3, 4))
)


def test_the_axis_names_stand_in_the_annotation():
    assert Table.axes() == {"mass": ("layer", "head"), "place": ("layer",)}
    assert {a for axes in Table.axes().values() for a in axes} <= set(AXES)


def test_a_frame_has_a_column_an_axis_with_the_labels():
    frame = TABLE.frame()
    assert list(frame.columns) == ["layer", "head", "value"]
    assert frame.to_numpy().tolist() == [[3, 0, 0.5], [3, 1, 1.0], [3, 2, 1.5], [9, 0, 2.0], [9, 1, 2.5], [9, 2, 3.0]]
    assert TABLE.frame("place")["value"].tolist() == [7, 8]
    assert Bare(torch.tensor([4.0, 5.0])).frame().to_numpy().tolist() == [[0, 4], [1, 5]]


def test_an_unknown_array_is_refused():
    with pytest.raises(KeyError, match="Table has no array 'words'; it has mass, place"):
        TABLE.frame("words")


def test_a_dataset_has_named_axes_and_labels():
    data = TABLE.to_xarray()
    assert data["mass"].sel(layer=9, head=1).item() == 2.5
    assert data["place"].dims == ("layer",)


def test_without_xarray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(
        ImportError, match=r"to_xarray needs xarray, which is not installed: pip install 'interp\[xarray\]'"
    ):
        TABLE.to_xarray()


def test_a_result_survives_being_saved(tmp_path):
    again = Table.load(TABLE.save(tmp_path / "t.safetensors"))
    torch.testing.assert_close(again.mass, TABLE.mass, rtol=0, atol=0)
    torch.testing.assert_close(again.place, TABLE.place, rtol=0, atol=0)
    assert (again.layers, again.words, again.pairs, again.bound) == ((3, 9), ("a", "b"), ((1, 2), (3, 4)), 0.5)


def test_another_kind_of_result_is_refused(tmp_path):
    path = TABLE.save(tmp_path / "t.safetensors")
    with pytest.raises(ValueError, match=r"t\.safetensors holds a Table, not a Bare"):
        Bare.load(path)


@pytest.mark.parametrize(
    ("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infinity")]
)
def test_numbers_that_are_none_are_named_with_site_and_layer(value, kind):
    check_finite({"pattern": torch.ones(3)}, 4)
    with pytest.raises(FloatingPointError, match=f"{kind} in pattern of layer 4; try dtype='float32'"):
        check_finite({"z": torch.ones(3), "pattern": torch.tensor([1.0, value])}, 4)
