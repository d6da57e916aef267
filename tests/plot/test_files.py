"""Plots as files."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.result import Result
from interp.plot.files import png, save_pictures


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


def test_files_are_one_a_picture(sink_table, tmp_path) -> None:
    names = [p.name for p in save_pictures(sink_table, tmp_path, "sinks")]
    assert names == ["sinks_massive.png", "sinks_received.png"]
    assert [p.name for p in save_pictures(ByLayer(torch.rand(3)), tmp_path, "entropy")] == ["entropy.png"]
    assert save_pictures(OneNumber(torch.tensor(1.0)), tmp_path, "one") == []
    assert all((tmp_path / n).read_bytes().startswith(b"\x89PNG") for n in (*names, "entropy.png"))


def test_one_file_holds_several_axes() -> None:
    seen = []
    data = png(seen.append, seen.append, size=(2.0, 2.0))
    assert data.startswith(b"\x89PNG")
    assert len({id(ax) for ax in seen}) == 2
