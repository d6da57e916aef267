"""VAF: increases attention to the image and decreases it to the system prompt, in the middle layers."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from interp.data.prompt import Prompt
from interp.data.tokens import AFTER_IMAGE, SINKS, Segment
from interp.interventions.attention import ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.method import Method, scaled_layers
from interp.methods.spear import with_sinks


@final
@dataclass(frozen=True)
class Vaf(Method):
    """Visual amplification fusion (ClearSight).

    In the middle layers and every head, the scores from the rows after the image to image tokens are multiplied by `enhance`, and
    those to the system prompt by `suppress`, before the softmax.

    Args:
        enhance: the factor for image tokens; 1 is neutral.
        suppress: the factor for the system prompt; 1 is neutral.
        mode: `signed` as published, which lowers the probability of a negative score when the factor is above 1; `abs` raises it.
        spare_sinks: exclude the prompt's attention sinks from the suppression (SPEAR's "VAF-Fixed").
        layers: by default 9..14 of 32, scaled to the model's depth.

    References: Yin et al., ClearSight (CVPR 2025); its released code. Differs: rows and segments by role instead of fixed positions.
    """

    enhance: float = 1.15
    suppress: float = 0.95
    mode: Literal["signed", "abs"] = "signed"
    spare_sinks: bool = False
    layers: tuple[int, ...] | None = None
    on_image: ClassVar[str] = "it amplifies attention to an image"

    def mark(self, model: Any, prompt: Prompt) -> Prompt:
        """Return the prompt with its sinks marked where they are spared."""
        return with_sinks(model, prompt) if self.spare_sinks else prompt

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the two interventions that scale scores."""
        layers = scaled_layers(9, 14, model.layers) if self.layers is None else self.layers
        system = Segment.SYSTEM - SINKS if self.spare_sinks else Segment.SYSTEM
        image = ScaleScores(Segment.IMAGE, self.enhance, AFTER_IMAGE, layers, mode=self.mode)
        return (image, ScaleScores(system, self.suppress, AFTER_IMAGE, layers, mode=self.mode))
