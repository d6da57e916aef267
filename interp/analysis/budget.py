"""Attention budget: the share of attention of each segment, or of image, text and sinks.

`Budget` gives `SegmentShares`, `SinkBudget` gives `SinkShares`; `share_change` is the difference that an intervention makes to either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.layout import Layout
from interp.data.result import Result
from interp.data.tokens import EMITTING, EVERY, SINKS, Segment, Selector, tokens

SEGMENTS = (Segment.SYSTEM, Segment.IMAGE, Segment.USER, Segment.RESPONSE)
SEPARATED = ("IMAGE", "TEXT", "SINK")


def segment_shares(pattern: Float[Tensor, "*batch query key"], layout: Layout) -> Float[Tensor, "*batch segment"]:
    """Return the share of attention that each segment gets, averaged over the query rows.

    The sum of the probabilities from a row to the segment's tokens; probability mass in [0, 1], and the four sum to 1 when
    the rows do. A segment without tokens gets 0.

    References: the allocation α_i(T) of SPEAR (methods section 4.4) for T the segments. Differs: no.
    """
    return shares_of(pattern, layout, SEGMENTS)


def shares_of(
    pattern: Float[Tensor, "*batch query key"], layout: Layout, parts: Sequence[Selector]
) -> Float[Tensor, "*batch segment"]:
    """Return the share of attention that each of several selections gets, averaged over the query rows; in [0, 1].

    Selections may overlap, or leave tokens out; only where they do neither do the shares sum to 1 when the rows do.
    """
    masks = torch.stack([layout.mask(s) for s in parts]).to(pattern.device, torch.float32)
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
class Budget(Analysis[SegmentShares]):
    """The share of attention of every segment.

    Args:
        queries: the rows over which the mean is taken; by default those that emit the reply.
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


@final
@dataclass(frozen=True)
class SinkShares(Result):
    """The share of IMAGE, TEXT and SINK per layer and head, with sinks counted apart from their segment; probability mass in [0, 1]."""

    share: Float[Tensor, "layer head segment"]
    layers: tuple[int, ...]
    sinks: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `share`."""
        return "share"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers and parts."""
        return {"layer": list(self.layers), "segment": list(SEPARATED)}


@final
@dataclass(frozen=True)
class SinkBudget(Analysis[SinkShares]):
    """The share of attention of image, text and sinks, with sinks counted apart from their segment.

    IMAGE is the image without sinks, TEXT all other tokens (system, question and reply) without sinks, SINK all sinks.

    Args:
        sinks: which tokens are sinks; by default those marked in the prompt, `prompt.marked(sink=table.positions)` with the table of
            `Sinks`. An empty selection is allowed.
        queries: the rows over which the mean is taken; by default those that emit the reply.

    References: SPEAR, the separated-sink view of the attention-budget hypothesis. Differs: sinks on the image count as sinks.
    """

    sinks: Selector = SINKS
    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    @property
    def rows(self) -> Selector:
        """The rows the mean is taken over."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head segment"]:
        """Return one layer's shares.

        Raises:
            IndexError: no token is marked as a sink, or a position is outside the conversation.
        """
        sinks = tokens(self.sinks)
        parts = (Segment.IMAGE - sinks, EVERY - Segment.IMAGE - sinks, sinks)
        return shares_of(values["pattern"], view.layout, parts).cpu()

    def finish(self, partials: Mapping[int, Tensor], view: View) -> SinkShares:
        """Stack the layers."""
        return SinkShares(torch.stack(list(partials.values())), tuple(partials), view.layout.positions(self.sinks))


@final
@dataclass(frozen=True)
class ShareChange(Result):
    """What an intervention does to the shares: after minus before, in [-1, 1].

    `total` is the sum over the parts. It is 0 wherever the rows still sum to 1; an intervention on the pattern without
    renormalisation adds or removes mass, which `total` shows.
    """

    change: Float[Tensor, "layer head segment"]
    total: Float[Tensor, "layer head"]
    layers: tuple[int, ...]
    parts: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `change`."""
        return "change"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers and parts."""
        return {"layer": list(self.layers), "segment": list(self.parts)}


def share_change(before: SegmentShares | SinkShares, after: SegmentShares | SinkShares) -> ShareChange:
    """Return how every share changed between two measurements of the same kind, without and with an intervention.

    Example: `share_change(measure(model, prompt, Budget()), measure(model, prompt, Budget(), interventions=[method]))`.

    Raises:
        ValueError: measurements of different kinds, layers, heads or sinks.

    References: SPEAR, attention-budget hypothesis: Σ_T δα(T) = 0. Differs: no.
    """
    alike = type(before) is type(after) and before.layers == after.layers and before.share.shape == after.share.shape
    if not alike or getattr(before, "sinks", None) != getattr(after, "sinks", None):
        what = [
            f"{type(x).__name__} of layers {list(x.layers)}, sinks {getattr(x, 'sinks', None)}" for x in (before, after)
        ]
        raise ValueError(f"only two measurements of the same kind can be compared, got {what[0]} and {what[1]}")
    change = after.share - before.share
    return ShareChange(change, change.sum(-1), before.layers, tuple(before.labels["segment"]))
