"""DeCo: what an earlier layer says of the likeliest tokens is added to what the last one says."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.interventions.base import Intervention
from interp.interventions.lens import CorrectLogits
from interp.interventions.method import Method
from interp.methods.dola import IMPOSSIBLE, beyond, scaled_depths


@final
@dataclass(frozen=True)
class Deco(Method):
    """Dynamic correction decoding.

    The candidates of a token are the likeliest of the model's own distribution that reach a probability of `top_p` together, `top_k` at
    most. Among some earlier streams, read through the final norm and the output head, the one that gives any candidate the
    largest probability s is chosen. With its logits l', the logits become l + alpha · s · l', and other tokens than the candidates
    are impossible.

    Args:
        alpha: how much is added; 0 is neutral together with `top_p=1` and `top_k=None`.
        top_p: the probability that the candidates reach together.
        top_k: how many candidates there are at most; None for no bound.
        depths: which streams, counted from the embeddings (0); 20..28 of 32, scaled to the model's depth, by default.

    References: Wang et al., MLLM can see? Dynamic correction decoding (ICLR 2025), as its released code computes it (zjunlp/Deco), whose
    README has alpha 0.6, top_p 0.9, top_k 20. Differs: it acts on the logits of every emitting row, each sample on its own,
    so batches have it too, where the release's greedy loop takes one prompt.
    """

    alpha: float = 0.6
    top_p: float = 0.9
    top_k: int | None = 20
    depths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, top_p outside (0, 1], no candidate or no depth.
        """
        if self.alpha < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise ValueError(
                "DeCo takes an alpha of at least 0, top_p above 0 and up to 1, and top_k of at least 1 or None, "
                f"got {self.alpha}, {self.top_p} and {self.top_k}"
            )
        if self.depths is not None and not self.depths:
            raise ValueError("depths=() leaves no earlier stream; leave it out for those published")

    def refusal(self, model: Any) -> str | None:
        """Say which streams are not there."""
        return beyond(self._depths(model), model)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one correction of the logits."""
        return (CorrectLogits(self._depths(model), model.unembed, self.corrected),)

    def corrected(
        self, logits: Float[Tensor, "batch row vocab"], early: Float[Tensor, "depth batch row vocab"]
    ) -> Float[Tensor, "batch row vocab"]:
        """Return the logits with those of the surest depth added."""
        candidates = self.candidates(logits)
        sure = torch.where(candidates, early.softmax(-1), 0).amax(-1)
        strength, chosen = sure.max(0)
        surest = early.gather(0, chosen[None, ..., None].expand(1, *logits.shape))[0]
        return (logits + self.alpha * strength[..., None] * surest).masked_fill(~candidates, IMPOSSIBLE)

    def candidates(self, logits: Float[Tensor, "*batch vocab"]) -> Tensor:
        """Return which tokens may be corrected and taken."""
        best, ids = logits.softmax(-1).topk(min(self.top_k or logits.shape[-1], logits.shape[-1]))
        kept = (best.cumsum(-1) - best < self.top_p) | (self.top_p == 1)
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, kept)

    def _depths(self, model: Any) -> tuple[int, ...]:
        return scaled_depths(tuple(range(20, 29)), model.layers) if self.depths is None else tuple(self.depths)
