"""PAI: the emitting rows look at the image more, and what is said without it is subtracted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

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
    but the first ones. With `guidance` g the next token's log-probabilities are g · log p - (g - 1) · log p', where p' is what the same
    reply gets after the prompt without its images, under no edit; tokens less likely than a tenth of the likeliest are impossible.

    Args:
        alpha: how much is added; 0 is neutral together with `guidance=1`.
        guidance: g; 1 leaves the second stream out, and with it the bound on plausible tokens.
        layers: 2..31 of 32, scaled to the model's depth, by default.

    References: Liu et al., Paying More Attention to Image (ECCV 2024), and its released code, whose README has alpha 0.2 and g 1.1.
    Differs: rows and keys by role.
    """

    alpha: float = 0.2
    guidance: float = 1.1
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, or a guidance below 1.
        """
        if self.alpha < 0 or self.guidance < 1:
            raise ValueError(
                f"PAI takes an alpha of at least 0 and a guidance of at least 1, got {self.alpha} and {self.guidance}"
            )

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    @property
    def passes(self) -> int:
        """How many passes a token takes: one, and one for the second stream."""
        return 2 if self.guidance > 1 else 1

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image, or none to leave out."""
        if not model.family.image_token:
            return "it moves attention to an image, and this is a language model"
        if self.guidance > 1 and model.needs_image:
            return "its second stream has no image, and the model cannot run without one; guidance=1 leaves it out"
        return None

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say that the second stream follows no beams."""
        return self._guide().misfit(options) if self.guidance > 1 else None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one raising of scores."""
        layers = scaled_layers(2, 31, model.layers) if self.layers is None else self.layers
        return (ScaleScores(Segment.IMAGE, 1 + self.alpha, EMITTING, layers, mode="abs"),)

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the prompts without their images; none at a guidance of 1."""
        return self._guide().rules(model, prompts) if self.guidance > 1 else ()

    def _guide(self) -> Contrast:
        return Contrast(alpha=self.guidance - 1, beta=0.1)
