"""DoLa: contrasts the last layer's prediction with that of an earlier layer, chosen for every token."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.interventions.base import Intervention
from interp.interventions.lens import CorrectLogits
from interp.interventions.method import Method

EXCLUDED = -1e4
"""The logit of an excluded token: finite in every floating-point type, and low enough that the token is never chosen."""
DOLA_BUCKETS = {"low": tuple(range(0, 16, 2)), "high": tuple(range(16, 32, 2)), "all": tuple(range(0, 32, 2))}
"""The candidate depths of the residual stream in a model of 32 layers; depth 0 is the embeddings."""


@final
@dataclass(frozen=True)
class Dola(Method):
    """Decoding by contrasting layers.

    Every candidate depth of the residual stream is read through the output head, which gives a distribution q. The candidate whose
    divergence from the model's own distribution p is largest is the premature layer of this token. The logits become
    log p - strength · log q where p ≥ beta · max p; other tokens are excluded.

    `paper` reads the stream through the final norm and uses the Jensen-Shannon divergence, ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q) / 2.
    `release` follows the public code: no norm, although the last layer has one, and the arguments swapped, ½ KL(m‖p) + ½ KL(m‖q).

    Args:
        bucket: which candidates: `low`, `high`, or `all` as in the papers on vision-language models; of 32 layers every second one of
            0..14, 16..30 or 0..30, scaled to the model's depth.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one; 0 admits every token.
        strength: strength of the contrast; 1 as published, 0 is neutral together with `beta=0`.
        variant: the paper's method or the released code's.
        depths: the candidate depths themselves, instead of a bucket.

    References: Chuang et al., DoLa (ICLR 2024), Eq. 1-6, and its released code. Differs: the release runs with a repetition penalty of
    1.2 where its baseline has none; here the penalty is an option of `generate` for both. The method acts on the logits of every
    emitting row, so it also works with beams, batches and one pass over a reply.
    """

    bucket: Literal["low", "high", "all"] = "all"
    beta: float = 0.1
    strength: float = 1.0
    variant: Literal["paper", "release"] = "paper"
    depths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: an unknown bucket or variant, beta outside [0, 1], a negative strength, or no depth.
        """
        if self.bucket not in DOLA_BUCKETS or self.variant not in ("paper", "release"):
            raise ValueError(
                f"bucket is one of {', '.join(DOLA_BUCKETS)} and variant 'paper' or 'release', got {self.bucket!r} and {self.variant!r}"
            )
        if not 0 <= self.beta <= 1 or self.strength < 0:
            raise ValueError(f"beta is a share in [0, 1] and strength at least 0, got {self.beta} and {self.strength}")
        if self.depths is not None and not self.depths:
            raise ValueError("depths=() leaves no candidate; leave it out for a bucket")

    def obstacle(self, model: Any) -> str | None:
        """Return which of the candidate depths do not exist."""
        return missing_depths(self._depths(model), model)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that contrasts the logits."""
        unembed = partial(model.unembed, normed=self.variant == "paper")
        return (CorrectLogits(self._depths(model), unembed, self.contrast),)

    def contrast(
        self, logits: Float[Tensor, "batch row vocab"], early: Float[Tensor, "depth batch row vocab"]
    ) -> Float[Tensor, "batch row vocab"]:
        """Return the logits contrasted with those of the most divergent depth."""
        p, q = logits.log_softmax(-1), early.log_softmax(-1)
        chosen = self.divergence(p, q).argmax(0)
        premature = q.gather(0, chosen[None, ..., None].expand(1, *logits.shape))[0]
        implausible = logits.softmax(-1) < self.beta * logits.softmax(-1).amax(-1, keepdim=True)
        return (logits - self.strength * premature).masked_fill(implausible, EXCLUDED)

    def divergence(
        self, p: Float[Tensor, "batch row vocab"], q: Float[Tensor, "depth batch row vocab"]
    ) -> Float[Tensor, "depth batch row"]:
        """Return the divergence of the earlier log-probabilities q from p, in nats."""
        m = torch.logaddexp(p, q) - torch.tensor(2.0).log().item()
        if self.variant == "release":
            return (m.exp() * (m - (p + q) / 2)).sum(-1)
        return ((p.exp() * (p - m)).sum(-1) + (q.exp() * (q - m)).sum(-1)) / 2

    def _depths(self, model: Any) -> tuple[int, ...]:
        return scaled_depths(DOLA_BUCKETS[self.bucket], model.layers) if self.depths is None else tuple(self.depths)


def scaled_depths(published: tuple[int, ...], layers: int, of: int = 32) -> tuple[int, ...]:
    """Return published depths of the residual stream for a model of another depth, each once, below the last."""
    return tuple(sorted({min(round(d * layers / of), layers - 1) for d in published}))


def missing_depths(depths: tuple[int, ...], model: Any) -> str | None:
    """Return which depths are not earlier than a model's last one, as a reason to refuse it; None when all are."""
    missing = [d for d in depths if not 0 <= d < model.layers]
    return (
        f"depths {missing} are not earlier depths of the residual stream: it has 0..{model.layers - 1}"
        if missing
        else None
    )
