"""Changes to single heads: what each writes before the output projection."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, EVERY, LAST, Segment, Selector, tokens
from interp.interventions.base import Here, Intervention, canonicalise

Z = Float[Tensor, "batch token head head_dim"]
NONE = Heads(())
ROWS = {"all": EVERY, "response": EMITTING, "last": LAST, "step": EMITTING}


@final
@dataclass(frozen=True)
class AblateHeads(Intervention):
    """Take away what some heads write.

    Args:
        heads: which heads.
        mode: `zero` writes nothing; `mean` writes the head's own mean over the prompt; `resample` writes what it wrote at another,
            randomly drawn token of the prompt.
        at: in which rows: `all`, those that emit the `response`, or the `last` one, which in cached decoding is the current step.
            `step` takes the rows of `response`, each as a step of its own: of all other positions a row sees the keys and values that
            the pass computes without this change, so what is taken away at one token reaches no later one through the cache.
        seed: for `resample`.

    `step` runs every pass twice, first without this change, from which the prompt's mean and samples are then taken. To do it for every
    head and token of a reply in turn, `interp.experiments.erasure.erase_heads` is faster.

    References: AD-HH and AIR erase by zero at the emitting step (methods section 5.1).
    """

    heads: Heads = field()  # no default, although the base has one
    mode: Literal["zero", "mean", "resample"] = "zero"
    at: str = "all"
    seed: int = 0
    site: ClassVar[str] = "z"

    def __post_init__(self) -> None:
        """Settle the heads.

        Raises:
            ValueError: an unknown mode or place.
        """
        canonicalise(self)
        if self.mode not in ("zero", "mean", "resample") or self.at not in ROWS:
            raise ValueError(
                f"mode is zero, mean or resample and at is all, response, last or step, got {self.mode!r} and {self.at!r}"
            )

    @property
    def behind_clean_keys(self) -> bool:
        """Whether rows see each other's keys and values as they are without this: at the `step`."""
        return self.at == "step"

    def __call__(self, value: Z, here: Here) -> Z:
        """Return z without what the heads wrote."""
        touched = here.queries(ROWS[self.at]) & here.heads(self.heads)
        if self.mode == "zero":
            return value.masked_fill(touched, 0)
        return torch.where(touched, self._instead(value, here), value)

    def _instead(self, value: Z, here: Here) -> Tensor:
        """Return what is written instead; it comes from the prompt and is fixed once that is read."""
        known = here.state.setdefault((self, here.part, here.layer), {})
        prompt = here.queries(tokens(EVERY) - Segment.RESPONSE)[:, :, 0, 0]
        if "prompt" not in known:
            known["prompt"] = value[:, prompt.any(0)], prompt[:, prompt.any(0)]
        seen, real = known["prompt"]
        if self.mode == "mean":
            counted = real[:, :, None, None].float()
            return ((seen.float() * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True)).to(value.dtype)
        generator = torch.Generator().manual_seed(self.seed + 7919 * here.layer)
        draw = torch.rand(int(here.positions.max()) + 1, generator=generator).to(value.device)[
            here.positions.clamp_min(0)
        ]
        first = real.int().argmax(1, keepdim=True)  # the prompt's tokens stand together, behind the padding
        chosen = first + (draw * real.sum(1, keepdim=True)).long()
        return seen.gather(1, chosen[:, :, None, None].expand(-1, -1, *seen.shape[2:]))


@final
@dataclass(frozen=True)
class ScaleHeads(Intervention):
    """Multiply what some heads write. Neutral at `by=1`."""

    heads: Heads = field()  # no default, although the base has one
    by: float
    queries: Selector = EVERY
    site: ClassVar[str] = "z"

    def __post_init__(self) -> None:
        """Settle heads and selector."""
        canonicalise(self, "queries")

    def __call__(self, value: Z, here: Here) -> Z:
        """Return the scaled z."""
        return torch.where(here.queries(self.queries) & here.heads(self.heads), value * self.by, value)


@final
@dataclass(frozen=True)
class ScaleQueries(Intervention):
    """Multiply each head's queries, and so its scores: an inverse temperature a head. Neutral where every factor is 1.

    Scores and pattern stay on the fast path. Where a model bends its scores (soft-capping), it bends the scaled ones.

    Args:
        by: the factor of every head, for each of `layers` (all of the model's, in order, when that is None).
        queries: at which tokens.
        layers: in which layers.
        apart: heads that whoever made the factors left alone, to be read in the audit.
    """

    by: tuple[tuple[float, ...], ...]
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    apart: Heads = NONE
    site: ClassVar[str] = "q"

    def __post_init__(self) -> None:
        """Settle factors, selector and layers.

        Raises:
            ValueError: another number of layers than there are factors for.
        """
        canonicalise(self, "queries")
        object.__setattr__(self, "by", tuple(tuple(float(x) for x in row) for row in self.by))
        if self.layers is not None and len(self.layers) != len(self.by):
            raise ValueError(f"factors for {len(self.by)} layers were given for the layers {self.layers}")

    def __call__(self, value: Z, here: Here) -> Z:
        """Return the scaled queries."""
        known = here.state.setdefault((type(self).__name__, id(self), here.layer), {})
        if "factors" not in known:
            known["factors"] = self._factors(here.layer, value)
        scaled = (value * known["factors"]).to(value.dtype)
        return scaled if self.queries == EVERY else torch.where(here.queries(self.queries), scaled, value)

    def _factors(self, layer: int, value: Z) -> Float[Tensor, "head 1"]:
        row = self.by[layer if self.layers is None else self.layers.index(layer)]
        if len(row) != value.shape[2]:
            raise ValueError(f"layer {layer} has {value.shape[2]} heads, but {len(row)} factors were given")
        return torch.tensor(row, dtype=torch.float32, device=value.device)[:, None]
