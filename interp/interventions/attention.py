"""Changes to attention: before the softmax (scores) or after it (pattern)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data import EVERY, Selector
from interp.interventions import Here, Intervention, settled


@final
@dataclass(frozen=True)
class MaskAttention(Intervention):
    """Forbid some queries to see some keys; the softmax gives their share to the others.

    A row none of whose visible keys is left attends uniformly to them: it is never empty and never sees the future.
    Neutral when `queries` or `keys` takes nothing.
    """

    keys: Selector
    queries: Selector = EVERY
    layers: Iterable[int] | None = None
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Settle selectors and layers."""
        settled(self, "keys", "queries")

    def __call__(
        self, value: Float[Tensor, "batch head query key"], here: Here
    ) -> Float[Tensor, "batch head query key"]:
        """Return the scores with the forbidden ones far below every other."""
        far_below = -1e30 if torch.finfo(value.dtype).max > 1e35 else -3e4  # adding the causal mask must not overflow
        return value.masked_fill(here.queries(self.queries) & here.keys(self.keys), far_below)


@final
@dataclass(frozen=True)
class ScaleScores(Intervention):
    """Multiply the scores from some queries to some keys.

    `signed` multiplies as VAF and SPEAR publish it, which lowers the probability of a negative score when `by` > 1;
    `abs` adds (by - 1)·|score|, which always raises it. Neutral at `by=1`.
    """

    keys: Selector
    by: float
    queries: Selector = EVERY
    layers: Iterable[int] | None = None
    mode: Literal["signed", "abs"] = "signed"
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Settle selectors and layers.

        Raises:
            ValueError: an unknown mode.
        """
        settled(self, "keys", "queries")
        if self.mode not in ("signed", "abs"):
            raise ValueError(f"mode is 'signed' or 'abs', got {self.mode!r}")

    def __call__(
        self, value: Float[Tensor, "batch head query key"], here: Here
    ) -> Float[Tensor, "batch head query key"]:
        """Return the scaled scores."""
        scaled = value * self.by if self.mode == "signed" else value + (self.by - 1) * value.abs()
        return torch.where(here.queries(self.queries) & here.keys(self.keys), scaled, value)


@final
@dataclass(frozen=True)
class ScalePattern(Intervention):
    """Multiply the probabilities from some queries to some keys, after the softmax. Neutral at `by=1`.

    Args:
        keys: whose share is multiplied.
        by: the factor, at least 0.
        queries: in which rows.
        layers: in which layers; all by default.
        renormalize: `none` leaves the row sums as they become, `row` divides every touched row by its sum.
    """

    keys: Selector
    by: float
    queries: Selector = EVERY
    layers: Iterable[int] | None = None
    renormalize: Literal["none", "row"] = "none"
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Settle selectors and layers.

        Raises:
            ValueError: a negative factor or an unknown way to renormalise.
        """
        settled(self, "keys", "queries")
        if self.by < 0:
            raise ValueError(f"a probability cannot be scaled by {self.by}; give a factor of 0 or more")
        if self.renormalize not in ("none", "row"):
            raise ValueError(f"renormalize is 'none' or 'row', got {self.renormalize!r}")

    def __call__(
        self, value: Float[Tensor, "batch head query key"], here: Here
    ) -> Float[Tensor, "batch head query key"]:
        """Return the scaled pattern."""
        touched = here.queries(self.queries) & here.keys(self.keys)
        scaled = torch.where(touched, value * self.by, value)
        if self.renormalize == "none":
            return scaled
        total = scaled.sum(-1, keepdim=True, dtype=torch.float32).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.where(touched.any(-1, keepdim=True), (scaled / total).to(value.dtype), value)
