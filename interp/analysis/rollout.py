"""Attention across all layers: attention rollout, and gradient-weighted relevance.

`AttentionRollout` and `GradientRelevance` both give `Roots`; the functions `rollout` and `relevance` are the same on plain arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import EMITTING, Segment, Selector


def rollout(patterns: Float[Tensor, "layer query key"], residual: float = 0.5) -> Float[Tensor, "layer query key"]:
    """Return the share of each token, after each layer, that comes from each token of the input.

    R_l = (ρ I + (1 - ρ) A_l) R_{l-1}, R before the first layer the identity. Rows sum to 1 where those of A do.

    Args:
        patterns: one head-reduced pattern a layer, rows over all tokens.
        residual: ρ, the share of a token that the residual stream carries on.

    References: Abnar and Zuidema, Quantifying Attention Flow in Transformers (2020), section 3. Differs: no.
    """
    identity = torch.eye(patterns.shape[-1])
    through, found = identity, []
    for pattern in patterns.float():
        through = (residual * identity + (1 - residual) * pattern) @ through
        found.append(through)
    return torch.stack(found)


def relevance(updates: Float[Tensor, "layer query key"]) -> Float[Tensor, "layer query key"]:
    """Return the relevance of each token of the input to each row after every layer: R ← R + Ā R from the identity.

    Args:
        updates: Ā of every layer, non-negative.

    References: Chefer et al., Generic Attention-model Explainability (2021), equation 6. Differs: no.
    """
    through, found = torch.eye(updates.shape[-1]), []
    for update in updates.float():
        through = through + update @ through
        found.append(through)
    return torch.stack(found)


def relevance_update(
    pattern: Float[Tensor, "head query key"], gradient: Float[Tensor, "head query key"]
) -> Float[Tensor, "query key"]:
    """Return Ā, the mean over heads of the positive part of A ⊙ ∂ ln p/∂A; in nats, at least 0.

    Args:
        pattern: A.
        gradient: of the loss -ln p, hence the sign.

    References: Chefer et al. (2021), equation 5. Differs: the gradient is that of ln p, not of the logit.
    """
    total = torch.zeros_like(pattern[0], dtype=torch.float32)
    for one, slope in zip(pattern, gradient, strict=True):
        total += (-one.float() * slope.float()).clamp_min(0)
    return total / len(pattern)


@final
@dataclass(frozen=True)
class Chain:
    """The running product of the layers that have arrived, and its requested rows after each of them.

    A layer that is added on top needs the whole product. A layer that is added below needs only the rows, so downwards the product is
    dropped.

    Args:
        rows: the requested rows of the product of layers[0] up to each layer.
        whole: the product of all layers; None once a layer was added below.
        layers: the layers, in order.
    """

    rows: Float[Tensor, "layer query key"]
    whole: Float[Tensor, "token key"] | None
    layers: tuple[int, ...]

    def with_layer(self, layer: int, factor: Float[Tensor, "token key"], where: list[int]) -> "Chain":
        """Return the chain with one more layer at its upper or lower end.

        Args:
            layer: the layer.
            factor: its factor in the product.
            where: the indices of the requested rows.

        Raises:
            ValueError: a layer in between, or one on top after one from below.
        """
        if layer < self.layers[0]:
            return Chain(torch.cat([factor[None, where], self.rows @ factor]), None, (layer, *self.layers))
        if layer < self.layers[-1] or self.whole is None:
            raise ValueError(
                f"layer {layer} is no neighbour of {list(self.layers)}: layers are joined first to last or last to first"
            )
        whole = factor @ self.whole
        return Chain(torch.cat([self.rows, whole[None, where]]), whole, (*self.layers, layer))


def _joined(partials: Mapping[int, Any], view: View, queries: Selector) -> dict[int, Chain]:
    """Return the chain of the layers so far; the newest partial is its layer's factor."""
    where = list(view.layout.positions(queries))
    if not where:
        raise ValueError(f"the rows {queries} take no token of this conversation")
    factor = partials[view.layer]
    before = [p for p in partials.values() if isinstance(p, Chain)]
    chain = (
        before[0].with_layer(view.layer, factor, where) if before else Chain(factor[None, where], factor, (view.layer,))
    )
    return {chain.layers[0]: chain}


@final
@dataclass(frozen=True)
class Roots(Result):
    """The sources of each row among all tokens of the conversation (`key`), after every layer.

    For attention rollout, shares that sum to 1. For gradient-weighted relevance, numbers without unit; 1 for the row itself before the
    first layer. `image` are the positions of the image tokens.
    """

    share: Float[Tensor, "layer query key"]
    layers: tuple[int, ...]
    queries: tuple[int, ...]
    image: tuple[int, ...]
    words: tuple[str, ...]
    kind: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `share`."""
        return "share"

    @property
    def labels(self) -> dict[str, list]:
        """The layers and the positions of the rows."""
        return {"layer": list(self.layers), "query": list(self.queries)}

    def on_image(self, query: int | None = None, layer: int | None = None) -> Float[Tensor, " token"]:
        """Return the values of the image tokens for one row.

        Args:
            query: the position of the row; by default the last one, or with gradients the row that predicts the target.
            layer: the layer after which to read; the last by default.

        Raises:
            ValueError: an unknown row or layer, or a conversation without an image.
        """
        if not self.image:
            raise ValueError("this conversation has no image")
        layer = self.layers[-1] if layer is None else layer
        query = self.target_row if query is None else query
        if layer not in self.layers or query not in self.queries:
            raise ValueError(
                f"row {query} of layer {layer} was not measured: rows {list(self.queries)}, layers {list(self.layers)}"
            )
        return self.share[self.layers.index(layer), self.queries.index(query), list(self.image)]

    @property
    def target_row(self) -> int:
        """The last row to which any token but itself is relevant."""
        others = self.share[-1].clone()
        others[torch.arange(len(self.queries)), list(self.queries)] = 0
        found = others.any(-1).nonzero().flatten().tolist()
        return self.queries[found[-1] if found else -1]


@final
@dataclass(frozen=True)
class AttentionRollout(Analysis[Roots]):
    """Multiply attention through the layers; the residual stream counts as attention of a token to itself.

    Keeps the running product only, so its memory does not grow with depth.

    Args:
        heads: how the heads of a layer are combined.
        residual: the share of a token that the residual stream carries on, in [0, 1].
        queries: the rows to return.

    Raises:
        ValueError: an unknown reduction, or a share outside [0, 1].

    References: Abnar and Zuidema (2020). Differs: also offers the maximum over heads, with renormalised rows.
    """

    heads: Literal["mean", "max"] = "mean"
    residual: float = 0.5
    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def __post_init__(self) -> None:
        """Refuse unknown settings."""
        if self.heads not in ("mean", "max") or not 0 <= self.residual <= 1:
            raise ValueError(f"heads is 'mean' or 'max' and residual in [0, 1], got {self.heads!r} and {self.residual}")

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "query key"]:
        """Return the factor of one layer: a mixture of the identity and its head-reduced pattern."""
        if self.heads == "mean":
            reduced = values["pattern"].mean(0, dtype=torch.float32).cpu()
        else:
            largest = values["pattern"].amax(0).float()
            reduced = (largest / largest.sum(-1, keepdim=True)).cpu()
        mixed = (1 - self.residual) * reduced
        return mixed.diagonal_scatter(mixed.diagonal() + self.residual)

    def join(self, partials: Mapping[int, Any], view: View) -> dict[int, Chain]:
        """Multiply the newest layer into the product."""
        return _joined(partials, view, self.queries)

    def finish(self, partials: Mapping[int, Chain], view: View) -> Roots:
        """Return the rows."""
        return _roots(partials, self.queries, view, "rollout")


@final
@dataclass(frozen=True)
class GradientRelevance(Analysis[Roots]):
    """Find the tokens that support a target, by propagating attention that raises the target's probability.

    `measure(..., GradientRelevance(), target=0)`; `on_image()` of the result is the map over the image.

    Args:
        queries: the rows to return.

    References: Chefer et al., Generic Attention-model Explainability (2021). Differs: the gradient is that of ln p.
    """

    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})
    grad: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "query key"]:
        """Return the factor of one layer: the identity plus its update."""
        update = relevance_update(values["pattern"], values["pattern_grad"]).cpu()
        return update.diagonal_scatter(update.diagonal() + 1)

    def join(self, partials: Mapping[int, Any], view: View) -> dict[int, Chain]:
        """Multiply the newest layer into the product."""
        return _joined(partials, view, self.queries)

    def finish(self, partials: Mapping[int, Chain], view: View) -> Roots:
        """Return the rows."""
        return _roots(partials, self.queries, view, "relevance")


def _roots(partials: Mapping[int, Chain], queries: Selector, view: View, kind: str) -> Roots:
    (chain,) = partials.values()
    where, image = view.layout.positions(queries), view.layout.positions(Segment.IMAGE)
    return Roots(chain.rows, chain.layers, where, image, view.words, kind)
