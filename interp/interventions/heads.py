"""Interventions on single heads: on their outputs before the output projection, and on their queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, EVERY, LAST, Segment, Selector, tokens
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here, LayerKey

Z = Float[Tensor, "batch token head head_dim"]
_NO_HEADS = Heads(())
_ROWS_AT = {"all": EVERY, "response": EMITTING, "last": LAST, "step": EMITTING}


@final
@dataclass(frozen=True)
class AblateHeads(Intervention):
    """Ablate the output of some heads.

    Args:
        heads: the heads.
        mode: `zero` sets the output to zero; `mean` to the head's own mean over the prompt; `resample` to its output at another,
            randomly drawn token of the prompt.
        at: the rows: `all`, those that emit the `response`, or the `last` one, which in cached decoding is the current step.
            `step` selects the rows of `response`, each as a step of its own: a row sees, for all other positions, the keys and values
            that the pass computes without this intervention, so an ablation at one token does not reach later ones through the cache.
        seed: for `resample`.

    `step` runs every pass twice: the first time without this intervention, which also gives the prompt's mean and samples. To ablate
    every head at every token of a reply in turn, `interp.experiments.erasure.erase_heads` is faster.

    References: AD-HH and AIR ablate by zero at the emitting step (methods section 5.1).
    """

    heads: Heads = field()  # no default, although the base has one
    mode: Literal["zero", "mean", "resample"] = "zero"
    at: str = "all"
    seed: int = 0
    site: ClassVar[str] = "z"

    def __post_init__(self) -> None:
        """Put the heads into canonical form.

        Raises:
            ValueError: an unknown `mode` or `at`.
        """
        canonicalise(self)
        if self.mode not in ("zero", "mean", "resample") or self.at not in _ROWS_AT:
            raise ValueError(
                f"mode is zero, mean or resample and at is all, response, last or step, got {self.mode!r} and {self.at!r}"
            )

    @property
    def behind_clean_keys(self) -> bool:
        """Whether rows see the keys and values that the pass computes without this, for all positions but their own: for `at='step'`."""
        return self.at == "step"

    def __call__(self, value: Z, here: Here) -> Z:
        """Return z without the output of the heads."""
        touched = here.queries(_ROWS_AT[self.at]) & here.heads(self.heads)
        if self.mode == "zero":
            return value.masked_fill(touched, 0)
        return torch.where(touched, self._instead(value, here), value)

    def _instead(self, value: Z, here: Here) -> Tensor:
        """Return the replacement, which is computed at prefill and then fixed."""
        known = here.state.setdefault(LayerKey(self, here.part, here.layer), {})
        prompt = here.queries(tokens(EVERY) - Segment.RESPONSE)[:, :, 0, 0]
        if "prompt" not in known:
            known["prompt"] = value[:, prompt.any(0)], prompt[:, prompt.any(0)]
        seen, real = known["prompt"]
        if self.mode == "mean":
            counted = real[:, :, None, None].float()
            return ((seen.float() * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True)).to(value.dtype)
        # A draw per layer and position, not per call, so that cached decoding, one pass and a padded batch draw the same tokens.
        generator = torch.Generator().manual_seed(self.seed + 7919 * here.layer)
        draw = torch.rand(int(here.positions.max()) + 1, generator=generator).to(value.device)[
            here.positions.clamp_min(0)
        ]
        first = real.int().argmax(1, keepdim=True)  # the prompt's tokens are contiguous, after the padding
        chosen = first + (draw * real.sum(1, keepdim=True)).long()
        return seen.gather(1, chosen[:, :, None, None].expand(-1, -1, *seen.shape[2:]))


@final
@dataclass(frozen=True)
class ScaleHeads(Intervention):
    """Multiply the output of some heads. Neutral at `by=1`."""

    heads: Heads = field()  # no default, although the base has one
    by: float
    queries: Selector = EVERY
    site: ClassVar[str] = "z"

    def __post_init__(self) -> None:
        """Put heads and selector into canonical form."""
        canonicalise(self, "queries")

    def __call__(self, value: Z, here: Here) -> Z:
        """Return the scaled z."""
        return torch.where(here.queries(self.queries) & here.heads(self.heads), value * self.by, value)


@final
@dataclass(frozen=True)
class ScaleQueries(Intervention):
    """Multiply each head's queries, and so its scores: an inverse temperature per head. Neutral where every factor is 1.

    Scores and pattern stay on the fast path. Soft-capping, in models that have it, acts on the scaled scores.

    Args:
        by: the factor of every head, for each of `layers` (all of the model's, in order, when that is None).
        queries: the tokens.
        layers: the layers; all by default.
        apart: heads that were excluded when the factors were computed; only for display in the audit.
    """

    by: tuple[tuple[float, ...], ...]
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    apart: Heads = _NO_HEADS
    site: ClassVar[str] = "q"

    def __post_init__(self) -> None:
        """Put factors, selector and layers into canonical form.

        Raises:
            ValueError: the numbers of layers and of rows of factors differ.
        """
        canonicalise(self, "queries")
        object.__setattr__(self, "by", tuple(tuple(float(x) for x in row) for row in self.by))
        if self.layers is not None and len(self.layers) != len(self.by):
            raise ValueError(f"factors for {len(self.by)} layers were given, but the layers are {self.layers}")

    def __call__(self, value: Z, here: Here) -> Z:
        """Return the scaled queries."""
        known = here.state.setdefault(LayerKey(self, here.part, here.layer), {})
        if "factors" not in known:
            known["factors"] = self._factors(here.layer, value)
        scaled = (value * known["factors"]).to(value.dtype)
        return scaled if self.queries == EVERY else torch.where(here.queries(self.queries), scaled, value)

    def _factors(self, layer: int, value: Z) -> Float[Tensor, "head 1"]:
        row = self.by[layer if self.layers is None else self.layers.index(layer)]
        if len(row) != value.shape[2]:
            raise ValueError(f"layer {layer} has {value.shape[2]} heads, but {len(row)} factors were given")
        return torch.tensor(row, dtype=torch.float32, device=value.device)[:, None]
