"""Interventions on the value vectors, which attention carries to later tokens.

`heads` are pairs of layer and KV head here; all query heads of a group share a KV head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EVERY, Segment, Selector
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here, LayerKey

ValueVectors = Float[Tensor, "batch key kv_head head_dim"]


@final
@dataclass(frozen=True)
class ZeroValues(Intervention):
    """Set the value vectors of some tokens to 0 in every row that attends to them.

    The attention pattern does not change. The key-value cache keeps the original values; in decoding, the intervention acts again at
    every step. Neutral when `keys` selects nothing.
    """

    keys: Selector
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form."""
        canonicalise(self, "keys")

    def __call__(self, value: ValueVectors, here: Here) -> ValueVectors:
        """Return the values, 0 at the chosen tokens."""
        return value.masked_fill(here.keys(self.keys) & here.heads(self.heads), 0)


@final
@dataclass(frozen=True)
class MeanValues(Intervention):
    """Replace the value vectors of some tokens by the mean of others, per layer and KV head, computed at prefill.

    Neutral when `keys` selects nothing.

    Args:
        keys: the tokens whose values are replaced.
        over: the tokens of the mean; tokens of the reply and replaced ones are excluded.
        layers: the layers; all by default.
        heads: KV heads, as pairs of layer and KV head; all by default.

    References: the mean substitution of SPEAR, which does not specify the tokens of the mean or when it is computed. Differs: it is
    over the prompt's other tokens, once (methods, decision 9), so that cached decoding and one pass over the whole reply agree.
    """

    keys: Selector
    over: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Put selectors and layers into canonical form."""
        canonicalise(self, "keys", "over")

    def __call__(self, value: ValueVectors, here: Here) -> ValueVectors:
        """Return the values, replaced by the mean at the chosen tokens."""
        known = here.state.setdefault(LayerKey(self, here.part, here.layer), {})
        if "mean" not in known:
            counted = (here.keys(self.over) & ~here.keys(self.keys) & ~here.keys(Segment.RESPONSE)).float()
            total = counted.sum(1, keepdim=True)
            if bool((total == 0).any()):
                raise ValueError(
                    f"{self}: no token is left for the mean; choose `over` so that it has tokens of the prompt outside `keys`"
                )
            known["mean"] = ((value.float() * counted).sum(1, keepdim=True) / total).to(value.dtype)
        return torch.where(here.keys(self.keys) & here.heads(self.heads), known["mean"], value)


@final
@dataclass(frozen=True, eq=False)
class SetValues(Intervention):
    """Replace the value vectors of some tokens by given ones.

    Args:
        keys: the tokens whose values are replaced.
        to: the vectors, for each of `layers` (all of the model's, in order, when that is None).
        layers: the layers.
        heads: KV heads, as pairs of layer and KV head; all by default.
    """

    keys: Selector
    to: Float[Tensor, "layer kv_head head_dim"]
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form.

        Raises:
            ValueError: the numbers of layers and of vectors differ.
        """
        canonicalise(self, "keys")
        if self.layers is not None and len(self.layers) != len(self.to):
            raise ValueError(f"vectors for {len(self.to)} layers were given, but the layers are {self.layers}")

    def __call__(self, value: ValueVectors, here: Here) -> ValueVectors:
        """Return the values, replaced at the chosen tokens."""
        index = here.layer if self.layers is None else self.layers.index(here.layer)
        return torch.where(here.keys(self.keys) & here.heads(self.heads), self.to[index].to(value), value)
