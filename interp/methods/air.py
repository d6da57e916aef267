"""AIR: moves attention from text to the image in heads that attend to text too much, and flattens their attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from interp.data.heads import Heads, heads
from interp.data.tokens import AFTER_IMAGE, EMITTING, Segment
from interp.interventions.attention import ScalePattern, ScaleScores, Scores, ShrinkPattern
from interp.interventions.balance import RaiseScores, ReweightPattern
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here
from interp.interventions.method import Method, scaled_layers
from interp.methods.adhh import missing_heads


@final
@dataclass(frozen=True)
class Air(Method):
    """Attention imbalance rectification.

    Acts in the rows that emit a response token, in each of the heads. Where the text after the image gets more than `tau_text` of the
    attention, attention to it is multiplied by `text_gain` and attention to the image by `visual_gain` (reallocation). Then every
    row is pulled towards its mean, A* = (1 - beta) A + beta mean(A), over the keys it may see (the part of the projection that has
    an effect in decoding).

    `variant="release"` follows the released code, which is a different method: image scores × 1.08 and system scores × 0.97 in
    layers 9..14 of 32 and all heads; 0.28 of the head mean of |score| added to the image scores in layers 5..17 in the emitting rows;
    AD-HH on the heads with threshold 0.4; and the projection with 0.1 on all rows and heads of layers 5..17. There, the prompt's rows
    attend to the future (see `ReleasedProjection`), and cached decoding differs from one pass. The other settings are not used.

    Args:
        heads: the hallucination-sensitive heads, a ranking's `top(20)`.
        visual_gain: the factor for the image; 1 is neutral.
        text_gain: the factor for text; 1 is neutral.
        tau_text: the share of attention on text above which a row is rectified.
        beta: how far a row is pulled towards its mean; 0 is neutral.
        renormalize: whether reallocated rows are divided by their sums.
        variant: the paper's method or the released code.

    References: AIR (CVPR 2026 Findings), supplement C.2 and A.1, and its released code. Differs: the paper and its supplement
    swap the names of the two gains; here, each name states what is multiplied. The paper does not state whether rows are renormalised.
    Only the last step of the projection is done, because the others have no effect in decoding (methods, decision 6).
    """

    heads: Heads | Iterable[tuple[int, int]]
    visual_gain: float = 3.5
    text_gain: float = 0.1
    tau_text: float = 0.3
    beta: float = 0.3
    renormalize: Literal["none", "row"] = "none"
    variant: Literal["paper", "release"] = "paper"
    on_image: ClassVar[str] = "it moves attention from text to an image"

    def __post_init__(self) -> None:
        """Put the heads into canonical form and check the settings.

        Raises:
            ValueError: no heads, an unknown variant, or settings that the release does not use.
        """
        object.__setattr__(self, "heads", heads(self.heads))
        if not len(self.heads):  # type: ignore[arg-type]
            raise ValueError(
                "AIR needs heads: rank them by how well they separate hallucinated from other tokens (erase_heads)"
            )
        if self.variant not in ("paper", "release"):
            raise ValueError(f"variant is 'paper' or 'release', got {self.variant!r}")
        given = (self.visual_gain, self.text_gain, self.tau_text, self.beta, self.renormalize)
        if self.variant == "release" and given != (3.5, 0.1, 0.3, 0.3, "none"):
            raise ValueError(
                "variant='release' has constants of its own and uses none of the gains, tau_text, beta or renormalize"
            )

    def obstacle(self, model: Any) -> str | None:
        """Return which of the heads do not exist."""
        return missing_heads(self.heads, model)  # type: ignore[arg-type]

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return reallocation and shrinking, or the steps of the released code."""
        chosen = Heads(tuple(self.heads))
        if self.variant == "release":
            return _released(chosen, model.layers)
        moved = ReweightPattern(
            AFTER_IMAGE,
            Segment.IMAGE,
            self.text_gain,
            self.visual_gain,
            self.tau_text,
            EMITTING,
            None,
            chosen,
            self.renormalize,
        )
        return (moved, ShrinkPattern(self.beta, EMITTING, heads=chosen))


def _released(chosen: Heads, layers: int) -> tuple[Intervention, ...]:
    middle, wide = scaled_layers(9, 14, layers), scaled_layers(5, 17, layers)
    return (
        ScaleScores(Segment.IMAGE, 1.08, AFTER_IMAGE, middle),
        ScaleScores(Segment.SYSTEM, 0.97, AFTER_IMAGE, middle),
        RaiseScores(Segment.IMAGE, 0.28, EMITTING, wide),
        ScalePattern(AFTER_IMAGE, 0.0, EMITTING, heads=chosen, above=0.4),
        ReleasedProjection(0.1, wide),
    )


@final
@dataclass(frozen=True)
class ReleasedProjection(Intervention):
    """AIR's projection as released, on all rows: in the prompt, remove the trace, restore the norm, then pull each entry to its row's mean.

    This keeps a defect of the released code for comparison: the mean is added to masked keys too, so that up to beta of a row's
    attention goes to the future, and removing the trace makes diagonal entries negative. A decoded row has no future, so only the last
    step applies to it.
    """

    beta: float
    layers: Sequence[int] | None = None
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Put the layers into canonical form."""
        canonicalise(self)

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the projected pattern."""
        pattern = value.float()
        if here.step == 0 and value.shape[-2] == value.shape[-1]:
            diagonal = pattern.diagonal(dim1=-2, dim2=-1)
            flat = pattern - (diagonal.mean(-1)[..., None, None] * pattern.new_ones(value.shape[-1]).diag())
            norms = [x.square().sum((-2, -1), keepdim=True).sqrt() for x in (pattern, flat)]
            pattern = flat * norms[0] / norms[1].clamp_min(1e-12)
        return ((1 - self.beta) * pattern + self.beta * pattern.mean(-1, keepdim=True)).to(value.dtype)
