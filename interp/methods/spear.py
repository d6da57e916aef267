"""SPEAR: more attention to the image, less to the text, and the attention sinks left alone."""

from dataclasses import dataclass
from typing import Any, Literal, final

from interp.analysis.sinks import Sinks
from interp.data.prompt import Prompt
from interp.data.tokens import SINKS, Segment
from interp.interventions.attention import ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.method import Method, scaled_layers
from interp.passes.measure import measure

AFTER_IMAGE = Segment.USER | Segment.RESPONSE
TEXT = Segment.SYSTEM | Segment.USER | Segment.RESPONSE


def with_sinks(model: Any, prompt: Prompt, detector: Sinks | None = None) -> Prompt:
    """Return the prompt with its attention sinks marked, unless they are marked already."""
    if "sink" in prompt.layout.marks:
        return prompt
    found = measure(model, prompt, detector or Sinks(), progress=False)
    return prompt.marked(sink=found.positions)


@final
@dataclass(frozen=True)
class Spear(Method):
    r"""Sink-preserving attention reallocation.

    In the middle layers and every head, the scores from the rows after the image to image tokens are multiplied by `enhance`,
    those to all text but the sinks by `suppress`, before the softmax. The sinks are found on the same prompt; mark them
    yourself with `prompt.marked(sink=...)` to say which they are.

    Args:
        enhance: the factor for image tokens; 1 is neutral.
        suppress: the factor for text that is no sink; 1 is neutral.
        mode: `signed` as published, or `abs`, which raises and lowers whatever the score's sign.
        layers: 9..14 of 32, scaled to the model's depth, by default.

    References: SPEAR, section on the method: S holds the system prompt without its sinks, the user's text and the reply.
    Differs: the paper gives no factors, so they are
    VAF's 1.15 and 0.95; rows and sinks by this project's decisions 5 and 11.
    """

    enhance: float = 1.15
    suppress: float = 0.95
    mode: Literal["signed", "abs"] = "signed"
    layers: tuple[int, ...] | None = None

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    def refusal(self, model: Any) -> str | None:
        """Say that a language model has no image."""
        return None if model.family.image_token else "it moves attention to an image, and this is a language model"

    def marked(self, model: Any, prompt: Prompt) -> Prompt:
        """Mark the prompt's sinks."""
        return with_sinks(model, prompt)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the two scalings."""
        layers = scaled_layers(9, 14, model.layers) if self.layers is None else self.layers
        image = ScaleScores(Segment.IMAGE, self.enhance, AFTER_IMAGE, layers, mode=self.mode)
        return (image, ScaleScores(TEXT - SINKS, self.suppress, AFTER_IMAGE, layers, mode=self.mode))
