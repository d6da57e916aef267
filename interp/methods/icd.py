"""ICD: what the model says is set against what it says to a disturbing instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

from interp.data.prompt import Prompt
from interp.methods.contrast import Contrast, SecondStream, check_images, check_strength

CONFUSED = "You are a confused objects detector to provide a fuzzy overview or impression of the image."
"""The disturbance that the paper's release lists and others took up."""
READ_BY_QFORMER = ("qformer_input_ids", "qformer_attention_mask")


@final
@dataclass(frozen=True)
class Icd(SecondStream):
    """Instruction contrastive decoding: `Contrast` with a disturbing instruction in front of the question.

    The instruction stands between the image and the question; a Q-Former that reads the question reads it too.
    `variant="release"` follows the public code: where there is a Q-Former that reads, its instruction alone is disturbed; elsewhere
    the disturbance is the system prompt, in front of the image.

    Args:
        alpha: how far the two streams are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible.
        disturbance: the instruction.
        variant: the paper's form or the released code's.

    References: Wang et al., ICD (ACL Findings 2024), and its released code, which tries five disturbances and contrasts as VCD
    does. Differs: greedy decoding too, where the code changes only sampling.
    """

    alpha: float = 1.0
    beta: float = 0.1
    disturbance: str = CONFUSED
    variant: Literal["paper", "release"] = "paper"

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], no disturbance, or an unknown variant.
        """
        check_strength(self.alpha, self.beta)
        if not self.disturbance.strip():
            raise ValueError("the disturbance is empty; give an instruction, or leave it out for the published one")
        if self.variant not in ("paper", "release"):
            raise ValueError(f"variant is 'paper' or 'release', got {self.variant!r}")

    def refusal(self, model: Any) -> str | None:
        """Say that a language model has no image."""
        return None if model.family.image_token else "it disturbs how an image is read, and this is a language model"

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the disturbed prompts."""
        check_images(self, prompts)
        return Contrast(self.disturbed, self.alpha, self.beta).rules(model, prompts)

    def disturbed(self, prompt: Prompt) -> Prompt:
        """Return a prompt with the disturbing instruction.

        Raises:
            ValueError: the prompt was made from tensors, so there is no question to write in front of.
        """
        request = prompt.request
        if request.inputs is not None:
            raise ValueError(
                "ICD writes an instruction in front of the question, and this prompt was made from processed tensors; "
                "prepare(image, text) makes one with a question"
            )
        read = [n for n in READ_BY_QFORMER if n in prompt.inputs]
        if self.variant == "release" and not read:
            return prompt.again(replace(request, system_prompt=self.disturbance))
        other = prompt.again(replace(request, text=f"{self.disturbance} {request.text}"))
        if self.variant == "release":
            return replace(prompt, inputs={**prompt.inputs, **{n: other.inputs[n] for n in read}})
        return other
