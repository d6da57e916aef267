"""Changes to what attention carries: the value vectors.

Their heads are pairs of layer and KV head, which all query heads of a group share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EVERY, Segment, Selector
from interp.interventions.base import Here, Intervention, canonicalise

Values = Float[Tensor, "batch key kv_head head_dim"]


@final
@dataclass(frozen=True)
class ZeroValues(Intervention):
    """Let some tokens be attended to as before but carry nothing: their value vectors are 0, in every row that reads them.

    The attention pattern stays as it is. The key-value cache stays clean; in decoding the edit is applied again at every step.
    Neutral when `keys` takes nothing.
    """

    keys: Selector
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Settle selector and layers."""
        canonicalise(self, "keys")

    def __call__(self, value: Values, here: Here) -> Values:
        """Return the values, 0 at the chosen tokens."""
        return value.masked_fill(here.keys(self.keys) & here.heads(self.heads), 0)


@final
@dataclass(frozen=True)
class MeanValues(Intervention):
    """Let some tokens carry the mean of others: per layer and KV head, fixed once the prompt is read.

    Neutral when `keys` takes nothing.

    Args:
        keys: whose values are replaced.
        over: the tokens the mean runs over; those of the reply and the replaced ones are left out of it.
        layers: in which layers.
        heads: which KV heads, as pairs of layer and KV head; all by default.

    References: the mean substitution of SPEAR, which leaves open what the mean runs over and when. Differs: the prompt's
    other tokens, once (methods, decision 9), so that cached decoding and one pass over the whole reply agree.
    """

    keys: Selector
    over: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Settle selectors and layers."""
        canonicalise(self, "keys", "over")

    def __call__(self, value: Values, here: Here) -> Values:
        """Return the values, the mean at the chosen tokens."""
        known = here.state.setdefault((self, here.part, here.layer), {})
        if "mean" not in known:
            counted = (here.keys(self.over) & ~here.keys(self.keys) & ~here.keys(Segment.RESPONSE)).float()
            total = counted.sum(1, keepdim=True)
            if bool((total == 0).any()):
                raise ValueError(
                    f"{self}: no token is left to take the mean over; give `over` tokens of the prompt that `keys` does not take"
                )
            known["mean"] = ((value.float() * counted).sum(1, keepdim=True) / total).to(value.dtype)
        return torch.where(here.keys(self.keys) & here.heads(self.heads), known["mean"], value)


@final
@dataclass(frozen=True, eq=False)
class SetValues(Intervention):
    """Give some tokens chosen value vectors.

    Args:
        keys: whose values are replaced.
        to: the vectors, for each of `layers` (all of the model's, in order, when that is None).
        layers: in which layers.
        heads: which KV heads, as pairs of layer and KV head; all by default.
    """

    keys: Selector
    to: Float[Tensor, "layer kv_head head_dim"]
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Settle selector and layers.

        Raises:
            ValueError: another number of layers than there are vectors for.
        """
        canonicalise(self, "keys")
        if self.layers is not None and len(self.layers) != len(self.to):
            raise ValueError(f"vectors for {len(self.to)} layers were given for the layers {self.layers}")

    def __call__(self, value: Values, here: Here) -> Values:
        """Return the values, the chosen ones at the chosen tokens."""
        index = here.layer if self.layers is None else self.layers.index(here.layer)
        return torch.where(here.keys(self.keys) & here.heads(self.heads), self.to[index].to(value), value)
