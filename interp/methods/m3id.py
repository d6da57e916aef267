"""M3ID: the longer the reply, the more what the model says is set against what it says without the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.interventions.attention import MaskAttention
from interp.methods.contrast import Contrast, Contrasted, Scores, SecondStream, check_images, check_strength, combined

BLIND = MaskAttention(Segment.IMAGE, queries=Segment.USER | Segment.RESPONSE)
"""What stands for the prompt without its image where a model cannot run without one."""


@final
@dataclass(frozen=True)
class M3id(SecondStream):
    """Multi-modal mutual-information decoding: a contrast with the prompt without its image that grows with the reply.

    With log-probabilities l of the prompt and l' of the prompt without its image, the t-th token of the reply (t from 1) is chosen
    by l + (1 - γ)/γ · (l - l'), where γ = exp(-rate · t); where the likeliest token has a probability of `confident` or more,
    by l alone.

    Args:
        rate: λ, how fast the image's part grows with the reply; 0 is neutral together with `beta=0`.
        confident: the probability from which a token needs no correction; 1 corrects every token.
        beta: the least share of the likeliest token's probability that makes a token plausible; 0 admits every token.

    References: Favero et al., M3ID (CVPR 2024). We know of no code of the authors'. The rate 0.02 and the plausibility cutoff with
    0.1 are those that others' code runs it with as a baseline; the paper has the bound `confident` in place of the cutoff, but its
    value is in no source this project has, so by default it bounds nothing. Differs: where a model cannot run without an image, the second
    stream's text does not attend to it.
    """

    rate: float = 0.02
    confident: float = 1.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative rate, or a confident or beta that is no probability.
        """
        if self.rate < 0 or not 0 < self.confident <= 1:
            raise ValueError(
                f"rate is at least 0 and confident a probability in (0, 1], got {self.rate} and {self.confident}"
            )
        check_strength(0.0, self.beta)

    def refusal(self, model: Any) -> str | None:
        """Say that a language model has no image."""
        return None if model.family.image_token else "it takes the image away, and this is a language model"

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the prompts without their images."""
        check_images(self, prompts)
        second = Contrast(other_interventions=(BLIND,)) if model.needs_image else Contrast()
        return (Contrasted(second.stream(model, prompts), self.weighed),)

    def weighed(self, logits: Scores, others: Scores, step: int) -> Scores:
        """Return the scores of the token after `step` others."""
        here, there = logits.log_softmax(-1), others.log_softmax(-1)
        sure = here.amax(-1, keepdim=True) >= math.log(self.confident)
        return combined(here, there, torch.where(sure, 0.0, math.expm1(self.rate * (step + 1))), self.beta)
