"""How evenly each row of attention is distributed over its tokens: variance, entropy, and their rank correlation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import EMITTING, Selector


def tokens_seen(pattern: Float[Tensor, "*batch query key"], queries: tuple[int, ...]) -> Int[Tensor, "*batch query"]:
    """Return the number of tokens that each row can attend to: those up to itself.

    A row that attends to later ones (the image and prompt of a prefix language model) counts up to the last it attends to.

    Args:
        pattern: the rows.
        queries: their positions.
    """
    places = torch.arange(1, pattern.shape[-1] + 1, device=pattern.device)
    last = ((pattern > 0) * places).amax(-1)
    return torch.maximum(last, torch.tensor(queries, device=pattern.device) + 1)


def row_variance(
    pattern: Float[Tensor, "*batch query key"], seen: Int[Tensor, "*batch query"]
) -> Float[Tensor, "*batch query"]:
    """Return the variance σ_A² of every row over the T tokens it is a distribution over.

    (1/T) Σ_j (A_ij - 1/T)², from 0 for an even row to (1/T)(1 - 1/T) for one on a single token. Tokens that cannot be seen do not
    count, so the number of tokens after a row, and padding, make no difference.

    References: AIR's supplement, appendix B.2. Differs: T is the number of tokens the row can see; the paper writes one T for all.
    """
    squares = pattern.float().square().sum(-1)
    mass = pattern.float().sum(-1)
    return ((squares - 2 * mass / seen + 1 / seen) / seen).clamp_min(0)


def row_entropy(pattern: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch query"]:
    """Return the entropy -Σ_j A_ij ln A_ij of every row in nats: 0 on a single token, ln T for an even row over T tokens.

    References: AIR's supplement, appendix B.2. Differs: no.
    """
    return -torch.special.xlogy(pattern.float(), pattern.float()).sum(-1)


def rank_correlation(
    one: Float[Tensor, "*batch sample"], other: Float[Tensor, "*batch sample"]
) -> Float[Tensor, "*batch"]:
    """Return Spearman's rank correlation over the last axis, ties at their mean rank; in [-1, 1].

    NaN where it is not defined: fewer than two numbers, or all of one side equal.
    """
    ranks = [torch.from_numpy(stats.rankdata(x.cpu().double().numpy(), axis=-1)) for x in (one, other)]
    a, b = (r - r.mean(-1, keepdim=True) for r in ranks)
    return ((a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()).clamp(-1, 1).float()


@final
@dataclass(frozen=True)
class AttentionDistribution(Result):
    """Variance and entropy of the attention rows of every head.

    `variance` is the mean over rows of σ_A², `entropy` of the entropy in nats, `evenness` of the entropy divided by that of an even
    row, in [0, 1]. `correlation` is the rank correlation of variance and entropy over the rows of a head, `across` that over the
    heads of a layer; both in [-1, 1], NaN where there are fewer than two of them or they are all equal. `count` is the number of rows.
    """

    variance: Float[Tensor, "layer head"]
    entropy: Float[Tensor, "layer head"]
    evenness: Float[Tensor, "layer head"]
    correlation: Float[Tensor, "layer head"]
    across: Float[Tensor, " layer"]
    layers: tuple[int, ...]
    count: int

    @classmethod
    def summary_field(cls) -> str:
        """Return `entropy`."""
        return "entropy"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}


@final
@dataclass(frozen=True)
class Distribution(Analysis[AttentionDistribution]):
    """How evenly every head spreads its attention.

    Args:
        queries: the rows; by default those that emit the reply.

    References: AIR's supplement, appendix B.2, which uses the variance as a proxy of the entropy; the rank correlation measures
    how good a proxy. Differs: no.
    """

    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})
    undefined: ClassVar[frozenset[str]] = frozenset({"correlation", "across"})

    @property
    def rows(self) -> Selector:
        """The rows."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return one layer's numbers."""
        pattern = values["pattern"]
        seen = tokens_seen(pattern, view.queries)
        variance, entropy = row_variance(pattern, seen), row_entropy(pattern)
        even = seen.float().log()
        evenness = torch.where(even > 0, entropy / even.clamp_min(torch.finfo(torch.float32).tiny), 1.0)
        found = {
            "variance": variance.mean(-1),
            "entropy": entropy.mean(-1),
            "evenness": evenness.mean(-1),
            "correlation": rank_correlation(variance, entropy),
            "across": rank_correlation(variance.mean(-1), entropy.mean(-1)),
        }
        return {n: v.cpu() for n, v in found.items()}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> AttentionDistribution:
        """Stack the layers."""
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in next(iter(partials.values()))}
        return AttentionDistribution(**found, layers=tuple(partials), count=len(view.queries))
