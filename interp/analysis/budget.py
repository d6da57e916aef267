"""Attention budget: how the rows that emit the reply share their attention among the segments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis import Analysis, View
from interp.data import EMITTING, Layout, Segment, Selector
from interp.result import Result

SEGMENTS = (Segment.SYSTEM, Segment.IMAGE, Segment.USER, Segment.RESPONSE)


def segment_shares(pattern: Float[Tensor, "*batch query key"], layout: Layout) -> Float[Tensor, "*batch segment"]:
    """Return the share of attention that each segment gets, averaged over the query rows.

    The sum of the probabilities from a row to the segment's tokens; probability mass in [0, 1], and the four sum to 1 when
    the rows do. A segment without tokens gets 0.

    References: the allocation α_i(T) of SPEAR (methods section 4.4) for T the segments. Differs: no.
    """
    masks = torch.stack([layout.mask(s) for s in SEGMENTS]).to(pattern.device, torch.float32)
    return (pattern.float() @ masks.T).mean(-2)


@final
@dataclass(frozen=True)
class SegmentShares(Result):
    """The share of every segment (SYSTEM, IMAGE, USER, RESPONSE) per layer and head; probability mass in [0, 1]."""

    share: Float[Tensor, "layer head segment"]
    layers: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `share`."""
        return "share"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers and segments."""
        return {"layer": list(self.layers), "segment": [s.name for s in SEGMENTS]}


@final
@dataclass(frozen=True)
class Budget(Analysis):
    """The share of attention of every segment.

    Args:
        queries: over which rows the mean is taken; those that emit the reply by default.
    """

    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    @property
    def rows(self) -> Selector:
        """The rows the mean is taken over."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head segment"]:
        """Return one layer's shares."""
        return segment_shares(values["pattern"], view.layout).cpu()

    def finish(self, partials: Mapping[int, Tensor], view: View) -> SegmentShares:
        """Stack the layers."""
        return SegmentShares(torch.stack(list(partials.values())), tuple(partials))
