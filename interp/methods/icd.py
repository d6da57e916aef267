"""ICD: contrasts the logits with those under a disturbing instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

from interp.data.prompt import Prompt
from interp.decoding.second_stream import SecondStream, check_strength
from interp.decoding.stream import Continuation

CONFUSED = "You are a confused objects detector to provide a fuzzy overview or impression of the image."
"""A disturbance that the paper's released code lists and later work uses."""
QFORMER_INPUTS = ("qformer_input_ids", "qformer_attention_mask")


@final
@dataclass(frozen=True)
class Icd(SecondStream):
    """Instruction contrastive decoding: `Contrast` with a disturbing instruction in front of the question.

    The instruction is inserted between the image and the question; a Q-Former that reads the question reads it too.
    `variant="release"` follows the public code: with a Q-Former that reads the question, only the Q-Former's instruction is disturbed;
    with any other model, the disturbance becomes the system prompt, in front of the image.

    Args:
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.
        disturbance: the disturbing instruction.
        variant: the paper's method or the released code's.

    References: Wang et al., ICD (ACL Findings 2024), and its released code, which tries five disturbances and contrasts as VCD
    does. Differs: greedy decoding too, where the code changes only sampling.
    """

    alpha: float = 1.0
    beta: float = 0.1
    disturbance: str = CONFUSED
    variant: Literal["paper", "release"] = "paper"
    on_image: ClassVar[str] = "it disturbs how an image is read"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], no disturbance, or an unknown variant.
        """
        check_strength(self.alpha, self.beta)
        if not self.disturbance.strip():
            raise ValueError("the disturbance is empty; give an instruction, or leave it out for the published one")
        if self.variant not in ("paper", "release"):
            raise ValueError(f"variant is 'paper' or 'release', got {self.variant!r}")

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream of the disturbed prompts."""
        return Continuation(model, [self.disturb(p) for p in prompts])

    def disturb(self, prompt: Prompt) -> Prompt:
        """Return a prompt with the disturbing instruction.

        Raises:
            ValueError: the prompt was made from tensors, so it has no question to put the instruction in front of.
        """
        request = prompt.request
        if request.inputs is not None:
            raise ValueError(
                "ICD puts an instruction in front of the question, and this prompt was made from processed tensors; "
                "prepare(image, text) makes one with a question"
            )
        read = [n for n in QFORMER_INPUTS if n in prompt.inputs]
        if self.variant == "release" and not read:
            return prompt.again(replace(request, system_prompt=self.disturbance))
        other = prompt.again(replace(request, text=f"{self.disturbance} {request.text}"))
        if self.variant == "release":
            return replace(prompt, inputs={**prompt.inputs, **{n: other.inputs[n] for n in read}})
        return other
