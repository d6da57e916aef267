"""Massive activations: the few entries of the residual stream that are a thousand times larger than the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import EMITTING, Selector


def largest_entries(
    stream: Float[Tensor, "token dim"], count: int
) -> tuple[Float[Tensor, " candidate"], Int[Tensor, " candidate"], Int[Tensor, " candidate"]]:
    """Return the entries of largest absolute value, signed and largest first, with their tokens and dimensions."""
    flat = stream.float().flatten()
    where = flat.abs().topk(min(count, len(flat))).indices
    return flat[where], where // stream.shape[-1], where % stream.shape[-1]


@final
@dataclass(frozen=True)
class MassiveTable(Result):
    """The largest entries of the residual stream after each layer, signed, with token and dimension.

    `median` is that of all absolute entries of the layer. The embeddings, before the first layer, are left out.
    """

    value: Float[Tensor, "layer candidate"]
    token: Int[Tensor, "layer candidate"]
    dim: Int[Tensor, "layer candidate"]
    median: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    above: float
    times_median: float

    @classmethod
    def summary_field(cls) -> str:
        """Return `value`."""
        return "value"

    @property
    def labels(self) -> dict[str, list]:
        """The layers."""
        return {"layer": list(self.layers)}

    @property
    def ratio(self) -> Float[Tensor, "layer candidate"]:
        """The absolute value of each entry divided by the median of its layer."""
        return self.value.abs() / self.median[:, None].clamp_min(torch.finfo(torch.float32).tiny)

    def entries(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Return the massive entries by token and dimension, with the layers after which each exceeds both bounds."""
        large = (self.value.abs() > self.above) & (self.value.abs() > self.times_median * self.median[:, None])
        places: dict[tuple[int, int], list[int]] = {}
        for layer, rank in large.nonzero().tolist():
            key = int(self.token[layer, rank]), int(self.dim[layer, rank])
            places.setdefault(key, []).append(self.layers[layer])
        return {key: tuple(layers) for key, layers in places.items()}


@final
@dataclass(frozen=True)
class Massive(Analysis[MassiveTable]):
    """List the largest entries of the residual stream after every layer.

    An entry is massive when its absolute value exceeds `above` and `times_median` times the median of the layer's.

    Args:
        count: the number of entries per layer.
        above: the absolute bound.
        times_median: the bound relative to the median.

    Raises:
        ValueError: fewer than one entry.

    References: Sun et al., Massive Activations in Large Language Models (2024), section 2. Differs: both bounds are arguments.
    """

    count: int = 5
    above: float = 100.0
    times_median: float = 1000.0
    want: ClassVar[frozenset[str]] = frozenset({"resid_post"})

    def __post_init__(self) -> None:
        """Refuse a count below 1."""
        if self.count < 1:
            raise ValueError(f"count is the number of entries per layer, at least 1; got {self.count}")

    @property
    def rows(self) -> Selector:
        """It reads neither scores nor pattern, so these few rows."""
        return EMITTING

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return one layer's largest entries."""
        stream = values["resid_post"].float()
        value, token, dim = largest_entries(stream, self.count)
        found = {"value": value, "token": token, "dim": dim, "median": stream.abs().median()}
        return {name: array.cpu() for name, array in found.items()}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> MassiveTable:
        """Stack the layers."""
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in next(iter(partials.values()))}
        return MassiveTable(
            **found, layers=tuple(partials), words=view.words, above=self.above, times_median=self.times_median
        )
