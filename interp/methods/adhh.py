"""AD-HH: hallucination heads are silenced where they look at text rather than at the image."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from interp.data.heads import Heads, heads
from interp.data.tokens import EMITTING, Segment
from interp.interventions.attention import ScalePattern
from interp.interventions.base import Intervention
from interp.interventions.method import Method

LLAVA_7B = heads(
    [
        (16, 29), (26, 9), (13, 31), (15, 10), (20, 12), (30, 9), (19, 18), (17, 0), (18, 9), (26, 28),
        (19, 27), (18, 26), (15, 25), (14, 16), (31, 26), (15, 24), (31, 3), (22, 20), (27, 29), (17, 28),
    ]
)  # fmt: skip
"""The twenty heads that the release lists for LLaVA-1.5-7B, best first."""


@final
@dataclass(frozen=True)
class Adhh(Method):
    """Adaptive deactivation of hallucination heads.

    In the rows that emit a response token, each of the heads that gives the text after the image at least `threshold` of its
    attention gets A_ij = 0 for that text. Rows are not renormalised.

    Args:
        heads: which heads: a ranking's `top(20)`, or `LLAVA_7B`.
        threshold: τ, a share of attention; above 1 is neutral. The release runs with 0.4 (its decoding script) and 0.5 (its
            baselines' script).

    References: Yang et al., Understanding and Mitigating Hallucination via modular attribution (ICLR 2025), and its released
    code. Differs: the share is each sample's own, where the release adds up its batch; text and rows by role.
    """

    heads: Heads | Iterable[tuple[int, int]]
    threshold: float = 0.4

    def __post_init__(self) -> None:
        """Settle the heads.

        Raises:
            ValueError: no heads, or a negative threshold.
        """
        object.__setattr__(self, "heads", heads(self.heads))
        if not len(self.heads):  # type: ignore[arg-type]
            raise ValueError("AD-HH needs heads: rank them (erase_heads), or take LLAVA_7B for LLaVA-1.5-7B")
        if self.threshold < 0:
            raise ValueError(f"the threshold is a share of attention of at least 0, got {self.threshold}")

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    def refusal(self, model: Any) -> str | None:
        """Say that a language model has no image, or which heads are not there."""
        if not model.family.image_token:
            return "it acts on attention that goes to text instead of the image, and this is a language model"
        return beyond(self.heads, model)  # type: ignore[arg-type]

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the silencing."""
        text = Segment.USER | Segment.RESPONSE
        return (ScalePattern(text, 0.0, EMITTING, heads=self.heads, above=self.threshold),)  # type: ignore[arg-type]


def beyond(chosen: Heads, model: Any) -> str | None:
    """Return which of some heads a model does not have, as a reason to refuse; None when it has them all."""
    missing = [p for p in chosen if p[0] >= model.layers or p[1] >= model.heads]
    if not missing:
        return None
    return f"heads {missing} are not there: it has layers 0..{model.layers - 1} with heads 0..{model.heads - 1}"
