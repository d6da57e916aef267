"""Contrastive decoding: what the model says here is set against what it says without what matters."""

import abc
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.decoding.stream import Continuation
from interp.interventions.base import Intervention
from interp.interventions.method import Method

Other = Prompt | Callable[[Prompt], Prompt]
"""The prompt to set against: one, or a function from the prompt that is answered."""


class SecondStream(Method):
    """The base of methods that set the model against a second stream of its own and act on the choice of tokens alone."""

    @property
    def passes(self) -> int:
        """Two: one for each stream."""
        return 2

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say that beams are not followed."""
        return several_replies(options)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: it acts on the choice of tokens."""
        return ()

    @abc.abstractmethod
    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the second stream."""


@final
@dataclass(frozen=True)
class Contrast(SecondStream):
    """Contrast the next-token logits with those that the same reply gets after another prompt.

    With l the logits and l' the other's, a token counts (1 + alpha) l - alpha l' where l ≥ max l + ln(beta), and is impossible
    elsewhere. The other prompt is read and continued with a cache and a running pass of its own, under `other_interventions` alone: no edit
    of the first stream reaches it. Greedy decoding and sampling; about twice the cost.

    Args:
        against: the other prompt, or a function that makes it (`lambda p: p.with_image(noised)`); by default the prompt without
            its images.
        alpha: how far the two are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible; 0 admits every token.
        other_interventions: interventions on the other stream, for instance attention that does not see the image.

    References: Leng et al., VCD (CVPR 2024), and its released code: a noised image, alpha 1, beta 0.1. Differs: any prompt, any
    intervention, and greedy decoding too, where VCD's code changes only sampling.
    """

    against: Other | None = field(default=None)
    alpha: float = 1.0
    beta: float = 0.1
    other_interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, or beta outside [0, 1].
        """
        check_strength(self.alpha, self.beta)
        object.__setattr__(self, "other_interventions", tuple(self.other_interventions))

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image to leave out."""
        if self.against is not None:
            return None
        if not model.family.image_token:
            return "it contrasts with the prompt without its image, and this is a language model; give against=prompt"
        if self.other_interventions:
            return None
        return (
            "it cannot run without an image; give against=..., for instance the prompt with another image"
            if model.needs_image
            else None
        )

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the other prompts."""
        return (Contrasted(self.stream(model, prompts), functools.partial(constant, self.alpha, self.beta)),)

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the second stream, before anything is read."""
        return Continuation(model, [self.other(p) for p in prompts], self.other_interventions)

    def other(self, prompt: Prompt) -> Prompt:
        """Return the prompt that one is set against."""
        if isinstance(self.against, Prompt):
            return self.against
        if self.against is not None:
            return self.against(prompt)
        return prompt if self.other_interventions else prompt.without(Segment.IMAGE)


Scores = Float[Tensor, "*batch vocab"]
Combine = Callable[[Tensor, Tensor, int], Tensor]
"""From both streams' scores (batch, vocab) and the number of tokens replied so far to the scores that count."""


def combined(logits: Scores, others: Scores, alpha: float | Float[Tensor, "*batch 1"], beta: float) -> Scores:
    """Return (1 + alpha) · logits - alpha · others, minus infinity where a token is less plausible than beta; see `Contrast`."""
    contrasted = (1 + alpha) * logits - alpha * others
    if beta == 0:
        return contrasted.masked_fill(logits == -torch.inf, -torch.inf)
    return contrasted.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(beta), -torch.inf)


def constant(alpha: float, beta: float, logits: Scores, others: Scores, step: int) -> Scores:
    """Return `combined` with the same strength at every step."""
    return combined(logits, others, alpha, beta)


def check_strength(alpha: float, beta: float) -> None:
    """Refuse strengths without a meaning.

    Raises:
        ValueError: a negative alpha, or beta outside [0, 1].
    """
    if alpha < 0 or not 0 <= beta <= 1:
        raise ValueError(f"alpha is at least 0 and beta a share in [0, 1], got {alpha} and {beta}")


def several_replies(options: Mapping[str, Any]) -> str | None:
    """Return why a second stream cannot follow some options of `generate`; None when it can."""
    several = [n for n in ("num_beams", "num_return_sequences") if (options.get(n) or 1) > 1]
    return f"its second stream follows one reply a prompt, so leave out {' and '.join(several)}" if several else None


def check_images(method: Method, prompts: Sequence[Prompt]) -> None:
    """Refuse prompts without an image.

    Raises:
        ValueError: a prompt holds no image token.
    """
    if any(not p.layout.mask(Segment.IMAGE).any() for p in prompts):
        raise ValueError(
            f"{method} changes how the image is seen, and a prompt has none: give it prompts with an image"
        )


@final
class Contrasted(LogitsProcessor):
    """The rule of one call of `generate`: follows its replies with a second stream.

    Args:
        other: the second stream; nothing of it has run yet.
        combine: makes the scores that count of both streams' scores.
    """

    def __init__(self, other: Continuation, combine: Combine) -> None:
        """Begin before the first token."""
        self.other, self.combine = other, combine
        self.step = 0

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
            others = self.other.step(input_ids[:, -1]) if self.step else self.other.read()
        self.step += 1
        return self.combine(scores, others.to(scores), self.step - 1)
