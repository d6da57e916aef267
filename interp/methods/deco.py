"""DeCo: adds an earlier layer's logits of the likeliest tokens to those of the last layer."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.interventions.base import Intervention
from interp.interventions.lens import CorrectLogits
from interp.interventions.method import Method
from interp.methods.dola import EXCLUDED, missing_depths, scaled_depths


@final
@dataclass(frozen=True)
class Deco(Method):
    """Dynamic correction decoding.

    The candidates for a token are the most likely tokens of the model's own distribution whose probabilities sum to `top_p`, at most
    `top_k` of them. Several earlier depths of the residual stream are read through the final norm and the output head; the one that
    gives any candidate the largest probability s is chosen. With its logits l', the logits become l + alpha · s · l', and tokens other
    than the candidates are excluded.

    Args:
        alpha: how much of the earlier logits is added; 0 is neutral together with `top_p=1` and `top_k=None`.
        top_p: the total probability of the candidates.
        top_k: the largest number of candidates; None for no bound.
        depths: which depths of the residual stream, counted from the embeddings (0); by default 20..28 of 32, scaled to the model's
            depth.

    References: Wang et al., MLLM can see? Dynamic correction decoding (ICLR 2025), as its released code computes it (zjunlp/Deco), whose
    README gives alpha 0.6, top_p 0.9, top_k 20. Differs: it acts on the logits of every emitting row, per sample, and so works on
    batches too, where the release's greedy loop takes one prompt.
    """

    alpha: float = 0.6
    top_p: float = 0.9
    top_k: int | None = 20
    depths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, top_p outside (0, 1], no candidate or no depth.
        """
        if self.alpha < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise ValueError(
                "DeCo takes an alpha of at least 0, top_p above 0 and up to 1, and top_k of at least 1 or None, "
                f"got {self.alpha}, {self.top_p} and {self.top_k}"
            )
        if self.depths is not None and not self.depths:
            raise ValueError("depths=() leaves no earlier depth; leave it out for the published ones")

    def obstacle(self, model: Any) -> str | None:
        """Return which of the depths do not exist."""
        return missing_depths(self._depths(model), model)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that corrects the logits."""
        return (CorrectLogits(self._depths(model), model.unembed, self.correct),)

    def correct(
        self, logits: Float[Tensor, "batch row vocab"], early: Float[Tensor, "depth batch row vocab"]
    ) -> Float[Tensor, "batch row vocab"]:
        """Return the logits with those of the most confident depth added."""
        candidates = self.candidates(logits)
        confidence = torch.where(candidates, early.softmax(-1), 0).amax(-1)
        strength, chosen = confidence.max(0)
        confident = early.gather(0, chosen[None, ..., None].expand(1, *logits.shape))[0]
        return (logits + self.alpha * strength[..., None] * confident).masked_fill(~candidates, EXCLUDED)

    def candidates(self, logits: Float[Tensor, "*batch vocab"]) -> Tensor:
        """Return which tokens are candidates."""
        best, ids = logits.softmax(-1).topk(min(self.top_k or logits.shape[-1], logits.shape[-1]))
        kept = (best.cumsum(-1) - best < self.top_p) | (self.top_p == 1)
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, kept)

    def _depths(self, model: Any) -> tuple[int, ...]:
        return scaled_depths(tuple(range(20, 29)), model.layers) if self.depths is None else tuple(self.depths)
