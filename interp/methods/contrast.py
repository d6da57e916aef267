"""Contrastive decoding with any second prompt, under any interventions of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.decoding.second_stream import SecondStream, check_strength
from interp.decoding.stream import Continuation
from interp.interventions.base import Intervention

OtherPrompt = Prompt | Callable[[Prompt], Prompt]
"""The prompt to contrast with: one prompt, or a function of the prompt that is answered."""


@final
@dataclass(frozen=True)
class Contrast(SecondStream):
    """Contrast the next-token logits with those of the same reply behind another prompt.

    With l the logits and l' those of the other stream, a token's logit becomes (1 + alpha) l - alpha l' where l ≥ max l + ln(beta), and
    minus infinity elsewhere. The other prompt is processed with a cache and a running pass of its own, under `other_interventions`
    alone: no intervention on the first stream reaches it. Works with greedy decoding and sampling, at about twice the cost.

    Args:
        against: the other prompt, or a function that makes it (`lambda p: p.with_image(noised)`); by default the prompt without
            its images.
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one; 0 admits every token.
        other_interventions: interventions on the other stream, for instance attention with the image masked.

    References: Leng et al., VCD (CVPR 2024), and its released code: a noised image, alpha 1, beta 0.1. Differs: any prompt, any
    intervention, and greedy decoding too, where VCD's code changes only sampling.
    """

    against: OtherPrompt | None = field(default=None)
    alpha: float = 1.0
    beta: float = 0.1
    other_interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, or beta outside [0, 1].
        """
        check_strength(self.alpha, self.beta)
        object.__setattr__(self, "other_interventions", tuple(self.other_interventions))

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no image, or that cannot run without one."""
        if self.against is not None:
            return None
        if not model.family.image_token:
            return "it contrasts with the prompt without its image, and this is a language model; give against=prompt"
        if model.needs_image and not self.other_interventions:
            return "it cannot run without an image; give against=..., for instance the prompt with another image"
        return None

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the other prompts' stream."""
        return Continuation(model, [self.other(p) for p in prompts], self.other_interventions)

    def other(self, prompt: Prompt) -> Prompt:
        """Return the prompt that another one is contrasted with."""
        if isinstance(self.against, Prompt):
            return self.against
        if self.against is not None:
            return self.against(prompt)
        return prompt if self.other_interventions else prompt.without(Segment.IMAGE)
