"""Observed token propagation: which tokens of a prompt its actual scores place in the linear part of the softmax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import LAST, Selector


def in_linear_part(scores: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch key"]:
    """Return 1 for every key whose score is in the linear part of the piecewise-linear softmax, 0 for the others.

    Over the T keys given, the softmax expanded at the origin is (ω_i - mean ω)/T + 1/T, cut off outside [0, 1]. All scores
    equal: all 1.

    References: TAME (2025), equations 2 and 3, definition 1. Differs: no.
    """
    x = scores.float()
    linear = (x - x.mean(-1, keepdim=True) + 1) / x.shape[-1]
    return ((linear >= 0) & (linear <= 1)).float()


@final
@dataclass(frozen=True)
class ObservedPropagation(Result):
    """The propagation of a real prompt from its actual scores.

    `activated` is the share of the rows that see a token for which it is in the linear part of the softmax, in [0, 1]; `share` its
    mean over the tokens of a row; `by_token` the share of all heads of all layers. A token no row sees gets 0.
    """

    activated: Float[Tensor, "layer head token"]
    share: Float[Tensor, "layer head"]
    by_token: Float[Tensor, " token"]
    layers: tuple[int, ...]
    words: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `share`."""
        return "share"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}


@final
@dataclass(frozen=True)
class EmpiricalPropagation(Analysis[ObservedPropagation]):
    """Find the tokens of a conversation that are in the linear part of the softmax, from the actual scores.

    Every row is evaluated over the tokens up to itself. Needs no weights, so it works on quantised models and saved captures too.

    Args:
        queries: the rows; the last by default.

    References: TAME (2025), definition 1 with the events in place of their probability. Differs: a reconstruction; the
    comparison of captions in the paper's figure 2 is described in an appendix that is not public.
    """

    queries: Selector = LAST
    want: ClassVar[frozenset[str]] = frozenset({"attn_scores"})

    @property
    def rows(self) -> Selector:
        """The rows that are evaluated."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return one layer's share of rows per token, and mean over the tokens of a row."""
        scores = values["attn_scores"]
        heads, _, length = scores.shape
        inside, share = torch.zeros(heads, length), torch.zeros(heads)
        for row, position in enumerate(view.queries):
            own = in_linear_part(scores[:, row, : position + 1]).cpu()
            inside[:, : position + 1] += own
            share += own.mean(-1) / len(view.queries)
        seen = (torch.tensor(view.queries)[:, None] >= torch.arange(length)).sum(0)
        return {"activated": inside / seen.clamp_min(1), "share": share}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> ObservedPropagation:
        """Stack the layers."""
        activated, share = (torch.stack([p[n] for p in partials.values()]) for n in ("activated", "share"))
        return ObservedPropagation(activated, share, activated.mean((0, 1)), tuple(partials), view.words)
