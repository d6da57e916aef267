"""AD-HH: silences hallucination heads where they attend to text rather than to the image."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

from interp.data.heads import Heads, heads
from interp.data.tokens import AFTER_IMAGE, EMITTING
from interp.interventions.attention import ScalePattern
from interp.interventions.base import Intervention
from interp.interventions.method import Method

LLAVA_7B = heads(
    [
        (16, 29), (26, 9), (13, 31), (15, 10), (20, 12), (30, 9), (19, 18), (17, 0), (18, 9), (26, 28),
        (19, 27), (18, 26), (15, 25), (14, 16), (31, 26), (15, 24), (31, 3), (22, 20), (27, 29), (17, 28),
    ]
)  # fmt: skip
"""The twenty heads that the released code lists for LLaVA-1.5-7B, best first."""


@final
@dataclass(frozen=True)
class Adhh(Method):
    """Adaptive deactivation of hallucination heads.

    In each row that emits a response token, A_ij becomes 0 for the text after the image in every given head that gives this text
    at least `threshold` of its attention. Rows are not renormalised.

    Args:
        heads: which heads: a ranking's `top(20)`, or `LLAVA_7B`.
        threshold: τ, a share of attention; above 1 is neutral. The released code uses 0.4 (decoding script) and 0.5 (script for
            baselines).

    References: Yang et al., Understanding and Mitigating Hallucination via modular attribution (ICLR 2025), and its released
    code. Differs: the share is computed per sample, where the release sums over its batch; text and rows by role.
    """

    heads: Heads | Iterable[tuple[int, int]]
    threshold: float = 0.4
    on_image: ClassVar[str] = "it acts on attention that goes to text instead of the image"

    def __post_init__(self) -> None:
        """Put the heads into canonical form and check the settings.

        Raises:
            ValueError: no heads, or a negative threshold.
        """
        object.__setattr__(self, "heads", heads(self.heads))
        if not len(self.heads):  # type: ignore[arg-type]
            raise ValueError("AD-HH needs heads: rank them (erase_heads), or use LLAVA_7B for LLaVA-1.5-7B")
        if self.threshold < 0:
            raise ValueError(f"the threshold is a share of attention of at least 0, got {self.threshold}")

    def obstacle(self, model: Any) -> str | None:
        """Return which of the heads do not exist."""
        return missing_heads(self.heads, model)  # type: ignore[arg-type]

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that silences the heads."""
        return (ScalePattern(AFTER_IMAGE, 0.0, EMITTING, heads=self.heads, above=self.threshold),)  # type: ignore[arg-type]


def missing_heads(chosen: Heads, model: Any) -> str | None:
    """Return which of some heads a model does not have, as a reason to refuse it; None when it has them all."""
    missing = [p for p in chosen if p[0] >= model.layers or p[1] >= model.heads]
    if not missing:
        return None
    return f"heads {missing} do not exist: it has layers 0..{model.layers - 1} with heads 0..{model.heads - 1}"
