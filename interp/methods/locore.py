"""LocoRE: increases attention to the most recent tokens of the reply."""

from dataclasses import dataclass
from typing import Any, Literal, final

from interp.data.tokens import AFTER_IMAGE, EMITTING, Segment
from interp.interventions.attention import ScalePattern, ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.method import Method


@final
@dataclass(frozen=True)
class Locore(Method):
    """Local coherence reinforcement.

    In every layer and head, in the rows that emit a response token, A_ij becomes (1 + gain) A_ij for the reply's tokens j that
    are 1 to `window` tokens before row i. Rows are not renormalised. The first two tokens of a reply have nothing to
    reinforce, because a row's own token is not among its predecessors.

    Args:
        gain: β; 0 is neutral. Published: 0.15 for LLaVA-1.5, 0.20 for Qwen2-VL.
        window: w_s, how many tokens back.
        tier: `post` scales the pattern, `pre` the scores before the softmax (the paper's text after its Eq. 10 says so).
        prompt_too: count the prompt's text after the image as part of the reply, as the papers' fixed positions do.
        layers: the layers; all by default.

    References: LVLMs-Saliency (2026), Eq. 8-10 and Algorithm 2; its released code does not contain it. Differs: w_s is not
    published, and 5 is this project's choice (methods, decision 7); reply tokens by role.
    """

    gain: float = 0.15
    window: int = 5
    tier: Literal["post", "pre"] = "post"
    prompt_too: bool = False
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative gain, a window below 1, or an unknown tier.
        """
        if self.gain < 0 or self.window < 1 or self.tier not in ("post", "pre"):
            raise ValueError(
                f"LocoRE takes a gain of at least 0, a window of at least 1 and tier 'post' or 'pre', got {self.gain}, {self.window} "
                f"and {self.tier!r}"
            )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that scales attention."""
        keys = AFTER_IMAGE if self.prompt_too else Segment.RESPONSE
        rows = EMITTING if self.prompt_too else Segment.RESPONSE
        scale = ScalePattern if self.tier == "post" else ScaleScores
        return (scale(keys, 1 + self.gain, rows, self.layers, near=self.window),)
