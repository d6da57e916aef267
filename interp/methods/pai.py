"""PAI: increases attention to the image in the emitting rows, and contrasts the logits with those without the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from interp.data.prompt import Prompt
from interp.data.tokens import EMITTING, Segment
from interp.interventions.attention import ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.method import Method, scaled_layers
from interp.methods.contrast import Contrast


@final
@dataclass(frozen=True)
class Pai(Method):
    """Paying more attention to image.

    In the rows that emit a response token, z becomes z + alpha · |z| for the scores z of image tokens, in every head of all layers
    but the first two. With `guidance` g, the next token's log-probabilities are g · log p - (g - 1) · log p', where p' are the
    probabilities of the same reply behind the prompt without its images, under no intervention; tokens less than a tenth as likely as
    the likeliest are excluded.

    Args:
        alpha: how much is added; 0 is neutral together with `guidance=1`.
        guidance: g; 1 omits the second stream, and with it the plausibility bound.
        layers: by default 2..31 of 32, scaled to the model's depth.

    References: Liu et al., Paying More Attention to Image (ECCV 2024), and its released code, whose README has alpha 0.2 and g 1.1.
    Differs: rows and keys by role.
    """

    alpha: float = 0.2
    guidance: float = 1.1
    layers: tuple[int, ...] | None = None
    on_image: ClassVar[str] = "it moves attention to an image"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, or a guidance below 1.
        """
        if self.alpha < 0 or self.guidance < 1:
            raise ValueError(
                f"PAI takes an alpha of at least 0 and a guidance of at least 1, got {self.alpha} and {self.guidance}"
            )

    @property
    def passes(self) -> int:
        """Two with the second stream, one without it."""
        return 2 if self.guidance > 1 else 1

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that cannot run without an image."""
        if self.guidance > 1 and model.needs_image:
            return "its second stream has no image, and the model cannot run without one; guidance=1 omits it"
        return None

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return why options for beams or several replies are refused; None without a second stream."""
        return self._contrast().misfit(options) if self.guidance > 1 else None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that raises scores."""
        layers = scaled_layers(2, 31, model.layers) if self.layers is None else self.layers
        return (ScaleScores(Segment.IMAGE, 1 + self.alpha, EMITTING, layers, mode="abs"),)

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the contrast with the prompts without their images; none at a guidance of 1."""
        return self._contrast().rules(model, prompts) if self.guidance > 1 else ()

    def _contrast(self) -> Contrast:
        return Contrast(alpha=self.guidance - 1, beta=0.1)
