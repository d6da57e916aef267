"""M3ID: contrasts the logits with those without the image, more strongly the longer the reply."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from interp.data.prompt import Prompt
from interp.data.tokens import AFTER_IMAGE, Segment
from interp.decoding.second_stream import Combine, NextLogits, SecondStream, check_strength, contrast_logits
from interp.decoding.stream import Continuation
from interp.interventions.attention import MaskAttention

BLIND = MaskAttention(Segment.IMAGE, queries=AFTER_IMAGE)
"""Replaces the prompt without its image where a model cannot run without one."""


@final
@dataclass(frozen=True)
class M3id(SecondStream):
    """Multi-modal mutual-information decoding: a contrast with the prompt without its image that grows with the reply.

    With the log-probabilities l for the prompt and l' for the prompt without its image, the t-th token of the reply (t from 1) is
    chosen by l + (1 - γ)/γ · (l - l'), where γ = exp(-rate · t). Where the likeliest token has a probability of `confident` or more,
    it is chosen by l alone.

    Args:
        rate: λ, how fast the contrast grows with the reply; 0 is neutral together with `beta=0`.
        confident: the probability of the likeliest token from which on no correction is made; 1 corrects every token.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one; 0 admits every token.

    References: Favero et al., M3ID (CVPR 2024). We know of no code by the authors. The rate of 0.02 and the plausibility bound of 0.1
    are those of other authors' code that runs the method as a baseline. The paper uses the bound `confident` instead of the plausibility
    bound, but no source available to this project gives its value, so the default bounds nothing. Differs: where a model cannot run
    without an image, the second stream's text does not attend to it.
    """

    rate: float = 0.02
    confident: float = 1.0
    beta: float = 0.1
    on_image: ClassVar[str] = "it takes the image away"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative rate, or a confident or beta that is no probability.
        """
        if self.rate < 0 or not 0 < self.confident <= 1:
            raise ValueError(
                f"rate is at least 0 and confident a probability in (0, 1], got {self.rate} and {self.confident}"
            )
        check_strength(0.0, self.beta)

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream of the prompts without their images."""
        if model.needs_image:
            return Continuation(model, prompts, (BLIND,))
        return Continuation(model, [p.without(Segment.IMAGE) for p in prompts])

    def combine(self) -> Combine:
        """Return the combination whose strength grows with the reply."""
        return self._growing

    def _growing(self, logits: NextLogits, others: NextLogits, step: int) -> NextLogits:
        here, there = logits.log_softmax(-1), others.log_softmax(-1)
        sure = here.amax(-1, keepdim=True) >= math.log(self.confident)
        return contrast_logits(here, there, torch.where(sure, 0.0, math.expm1(self.rate * (step + 1))), self.beta)
