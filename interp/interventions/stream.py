"""Interventions on the residual stream: set dimensions, add or remove directions, patch in values of another run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.prompt import Capture
from interp.data.tokens import EVERY, Segment, Selector
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here, LayerKey

Stream = Float[Tensor, "batch token dim"]


@final
@dataclass(frozen=True)
class SetDims(Intervention):
    """Set some dimensions of the residual stream at some tokens, after some layers, for instance massive activations.

    Args:
        queries: the tokens.
        dims: the dimensions.
        mode: `zero`; `mean` over the prompt's other tokens, computed at prefill; `value`, given in `values`.
        values: one number per dimension, for `value`.
        layers: the layers after which to act; all by default.

    References: Sun et al., Massive Activations (2024): zeroing a massive activation breaks the model, fixing it at its mean
    over inputs (`value`) does not. Differs: `mean` is over other tokens of the same prompt, a control added by this project.
    """

    queries: Selector = field()  # no default, although the base has one
    dims: tuple[int, ...] = field()
    mode: Literal["zero", "mean", "value"] = "zero"
    values: tuple[float, ...] = ()
    layers: Sequence[int] | None = None
    site: ClassVar[str] = "resid_post"

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form.

        Raises:
            ValueError: an unknown mode, or values that do not match the dimensions.
        """
        canonicalise(self, "queries")
        object.__setattr__(self, "dims", tuple(int(d) for d in self.dims))
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if self.mode not in ("zero", "mean", "value"):
            raise ValueError(f"mode is zero, mean or value, got {self.mode!r}")
        if len(self.values) != (len(self.dims) if self.mode == "value" else 0):
            raise ValueError(
                f"mode='value' takes one value per dimension and the other modes none, got {len(self.values)} values "
                f"for {len(self.dims)} dimensions"
            )

    def __call__(self, value: Stream, here: Here) -> Stream:
        """Return the stream with the dimensions set."""
        chosen = torch.zeros(value.shape[-1], dtype=torch.bool, device=value.device)
        chosen[list(self.dims)] = True
        new = torch.zeros_like(value[:, :1])
        if self.mode == "value":
            new[..., list(self.dims)] = torch.tensor(self.values, dtype=value.dtype, device=value.device)
        if self.mode == "mean":
            new = self._mean(value, here)
        return torch.where(here.queries(self.queries) & chosen, new, value)

    def _mean(self, value: Stream, here: Here) -> Tensor:
        known = here.state.setdefault(LayerKey(self, here.part, here.layer), {})
        if "mean" not in known:
            counted = (here.queries(EVERY) & ~here.queries(self.queries) & ~here.queries(Segment.RESPONSE)).float()
            known["mean"] = (
                (value.float() * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp_min(1)
            ).to(value.dtype)
        return known["mean"]


@final
@dataclass(frozen=True, eq=False)
class AddVector(Intervention):
    """Add a vector to the residual stream at some tokens, after some layers: steering. Neutral at `scale=0`."""

    vector: Float[Tensor, " dim"]
    scale: float = 1.0
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    site: ClassVar[str] = "resid_post"

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form."""
        canonicalise(self, "queries")

    def __call__(self, value: Stream, here: Here) -> Stream:
        """Return the steered stream."""
        return torch.where(here.queries(self.queries), value + self.scale * self.vector.to(value), value)


@final
@dataclass(frozen=True, eq=False)
class ProjectOut(Intervention):
    """Remove a subspace from the residual stream at some tokens, after some layers.

    Args:
        directions: vectors that span the subspace; they need not be orthogonal.
        share: the share of the component in the subspace that is removed; 0 is neutral, 1 removes all of it.
        queries: the tokens.
        layers: the layers after which to act; all by default.
    """

    directions: Float[Tensor, "segment dim"]
    share: float = 1.0
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    site: ClassVar[str] = "resid_post"

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form."""
        canonicalise(self, "queries")

    def __call__(self, value: Stream, here: Here) -> Stream:
        """Return the stream without the subspace."""
        basis = torch.linalg.qr(self.directions.to(value.device, torch.float32).T).Q
        inside = (value.float() @ basis) @ basis.T
        return torch.where(here.queries(self.queries), (value.float() - self.share * inside).to(value.dtype), value)


@final
@dataclass(frozen=True, eq=False)
class ReplaceFrom(Intervention):
    """Replace the value of some tokens at a site by that of another run: activation patching.

    Args:
        capture: the other run, with that site captured.
        queries: the tokens; both runs must have the same number of tokens.
        at: the site: a residual-stream site, `q` or `z`.
        layers: the layers; by default all captured ones.
    """

    capture: Capture = field(repr=False)
    queries: Selector = EVERY
    at: str = "resid_post"
    layers: Sequence[int] | None = None

    @property
    def site(self) -> str:  # type: ignore[override]
        """The site."""
        return self.at

    def __post_init__(self) -> None:
        """Put the selector and the layers into canonical form.

        Raises:
            KeyError: the site was not captured.
            ValueError: layers that were not captured, or a site without a token axis of its own.
        """
        canonicalise(self, "queries")
        if self.at in ("attn_scores", "pattern", "logits", "k", "v"):
            raise ValueError(f"ReplaceFrom acts at residual-stream sites, q or z, not at {self.at}")
        self.capture[self.at]
        missing = [i for i in self.layers or () if i not in self.capture.layers]
        if missing:
            raise ValueError(f"layers {missing} of {self.at} were not captured; captured: {self.capture.layers}")

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: its own, in the captured layers."""
        return (
            part == self.part
            and site == self.at
            and layer in (self.capture.layers if self.layers is None else self.layers)
        )

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the value, replaced by the other run's at the chosen tokens."""
        other = self.capture[self.at][self.capture.layers.index(here.layer)]
        positions = here.positions.clamp_min(0).to(other.device)
        if int(positions.max()) >= len(other):
            raise ValueError(
                f"the other run has {len(other)} tokens, this one is at {int(positions.max()) + 1}: "
                "patching needs conversations of the same length"
            )
        return torch.where(here.queries(self.queries), other[positions].to(value), value)
