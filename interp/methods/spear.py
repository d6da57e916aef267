"""SPEAR: increases attention to the image and decreases it to text, except to attention sinks."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from interp.analysis.sinks import Sinks
from interp.data.prompt import Prompt
from interp.data.tokens import AFTER_IMAGE, SINKS, Segment
from interp.interventions.attention import ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.method import Method, scaled_layers
from interp.passes.measure import measure


def with_sinks(model: Any, prompt: Prompt, detector: Sinks | None = None) -> Prompt:
    """Return the prompt with its attention sinks marked, unless they are marked already."""
    if "sink" in prompt.layout.marks:
        return prompt
    table = measure(model, prompt, detector or Sinks(), progress=False)
    return prompt.marked(sink=table.positions)


@final
@dataclass(frozen=True)
class Spear(Method):
    r"""Sink-preserving attention reallocation.

    In the middle layers and every head, the scores from the rows after the image to image tokens are multiplied by `enhance`, and
    those to all text except sinks by `suppress`, before the softmax. The sinks are detected on the same prompt; mark them with
    `prompt.marked(sink=...)` to choose them yourself.

    Args:
        enhance: the factor for image tokens; 1 is neutral.
        suppress: the factor for text that is not a sink; 1 is neutral.
        mode: `signed` as published, or `abs`, which raises or lowers a score regardless of its sign.
        layers: by default 9..14 of 32, scaled to the model's depth.

    References: SPEAR, section on the method: S holds the system prompt without its sinks, the user's text and the reply.
    Differs: the paper gives no factors, so VAF's 1.15 and 0.95 are used; rows and sinks follow this project's decisions 5 and 11.
    """

    enhance: float = 1.15
    suppress: float = 0.95
    mode: Literal["signed", "abs"] = "signed"
    layers: tuple[int, ...] | None = None
    on_image: ClassVar[str] = "it moves attention to an image"

    def mark(self, model: Any, prompt: Prompt) -> Prompt:
        """Return the prompt with its sinks marked."""
        return with_sinks(model, prompt)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the two interventions that scale scores."""
        layers = scaled_layers(9, 14, model.layers) if self.layers is None else self.layers
        text = Segment.SYSTEM | AFTER_IMAGE
        image = ScaleScores(Segment.IMAGE, self.enhance, AFTER_IMAGE, layers, mode=self.mode)
        return (image, ScaleScores(text - SINKS, self.suppress, AFTER_IMAGE, layers, mode=self.mode))
