"""Contrastive decoding: what the model says here is set against what it says without what matters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from interp.continuation import Continuation
from interp.data import Segment
from interp.interventions import Intervention
from interp.method import Method
from interp.prompt import Prompt

Other = Prompt | Callable[[Prompt], Prompt]
"""The prompt to set against: one, or a function from the prompt that is answered."""


@final
@dataclass(frozen=True)
class Contrast(Method):
    """Contrast the next-token logits with those that the same reply gets after another prompt.

    With l the logits and l' the other's, a token counts (1 + alpha) l - alpha l' where l ≥ max l + ln(beta), and is impossible
    elsewhere. The other prompt is read and continued with a cache and a running pass of its own, under `changes` alone: no edit of
    the first stream reaches it. Greedy decoding and sampling; about twice the cost.

    Args:
        against: the other prompt, or a function that makes it (`lambda p: p.with_image(noised)`); by default the prompt without
            its images.
        alpha: how far the two are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible; 0 admits every token.
        changes: interventions on the other stream, for instance attention that does not see the image.

    References: Leng et al., VCD (CVPR 2024), and its released code: a noised image, alpha 1, beta 0.1. Differs: any prompt, any
    intervention, and greedy decoding too, where VCD's code changes only sampling.
    """

    against: Other | None = field(default=None)
    alpha: float = 1.0
    beta: float = 0.1
    changes: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, or beta outside [0, 1].
        """
        if self.alpha < 0 or not 0 <= self.beta <= 1:
            raise ValueError(f"alpha is at least 0 and beta a share in [0, 1], got {self.alpha} and {self.beta}")
        object.__setattr__(self, "changes", tuple(self.changes))

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image to leave out."""
        if self.against is not None:
            return None
        if not model.family.image_token:
            return "it contrasts with the prompt without its image, and this is a language model; give against=prompt"
        if self.changes:
            return None
        return (
            "it cannot run without an image; give against=..., for instance the prompt with another image"
            if model.needs_image
            else None
        )

    def misfit(self, options: Any) -> str | None:
        """Say that beams are not followed."""
        several = [n for n in ("num_beams", "num_return_sequences") if (options.get(n) or 1) > 1]
        return (
            f"its second stream follows one reply a prompt, so leave out {' and '.join(several)}" if several else None
        )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: it acts on the choice of tokens."""
        return ()

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the other prompts."""
        others = [self.other(p) for p in prompts]
        return (_Contrasted(self.alpha, self.beta, Continuation(model, others, self.changes)),)

    def other(self, prompt: Prompt) -> Prompt:
        """Return the prompt that one is set against."""
        if isinstance(self.against, Prompt):
            return self.against
        if self.against is not None:
            return self.against(prompt)
        return prompt if self.changes else prompt.without(Segment.IMAGE)


def combined(
    logits: Float[Tensor, "*batch vocab"], others: Float[Tensor, "*batch vocab"], alpha: float, beta: float
) -> Float[Tensor, "*batch vocab"]:
    """Return (1 + alpha) · logits - alpha · others, minus infinity where a token is less plausible than beta; see `Contrast`."""
    contrasted = (1 + alpha) * logits - alpha * others
    if beta == 0:
        return contrasted.masked_fill(logits == -torch.inf, -torch.inf)
    return contrasted.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(beta), -torch.inf)


@final
class _Contrasted(LogitsProcessor):
    """The rule of one call of `generate`: follows its replies with a second stream."""

    def __init__(self, alpha: float, beta: float, other: Continuation) -> None:
        self.alpha, self.beta, self.other = alpha, beta, other
        self.begun = False

    def __call__(
        self, input_ids: Int[Tensor, "batch token"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Return the contrasted scores."""
        if len(input_ids) != len(self.other.now.roles.layouts):
            raise ValueError(
                f"the second stream follows {len(self.other.now.roles.layouts)} replies but {len(input_ids)} are decoded: "
                "contrastive decoding knows no beams and no several replies to a prompt"
            )
        with torch.no_grad():
            others = self.other.step(input_ids[:, -1]) if self.begun else self.other.read()
        self.begun = True
        return combined(scores, others.to(scores), self.alpha, self.beta)
