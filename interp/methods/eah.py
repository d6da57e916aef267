"""EAH: in a shallow layer, every head sees what the head with the densest visual sinks sees."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from interp.data.tokens import EMITTING, Segment, Selector
from interp.interventions.base import Here, Intervention
from interp.interventions.method import Method

AFTER_IMAGE = Segment.USER | Segment.RESPONSE
READING = (Segment.USER | EMITTING) - Segment.RESPONSE
"""The prompt's rows after the image, in which the sinks of a head are counted."""


@final
@dataclass(frozen=True)
class Eah(Method):
    """Enhanced attention heads: a reconstruction.

    No code is public, and of the paper this project knows the idea alone: in a shallow layer, the attention map of the head with
    the densest visual sinks is given to the other heads. Every value and every choice below is this project's, unverified:
    do not take its figures for the paper's.

    An image token is a sink of a head when the prompt's rows after the image give it, on average, more than `above` times what a row
    would give it if it looked at everything evenly. The head with the most of them is found for every prompt while that is read. In
    the rows after the image, the pattern of every head becomes (1 - share) · its own + share · that head's. Rows keep
    their sums. Where no head has a sink, nothing happens.

    Args:
        layer: which layer; the second by default.
        above: how many times even attention makes a sink.
        share: how much of the map is replaced; 0 is neutral.

    References: Zhang et al., Seeing clearly by layer two (2024), abstract. Differs: unknown.
    """

    layer: int = 1
    above: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative layer or bound, or a share outside [0, 1].
        """
        if self.layer < 0 or self.above < 0 or not 0 <= self.share <= 1:
            raise ValueError(
                "EAH takes a layer and a bound of at least 0 and a share in [0, 1], "
                f"got {self.layer}, {self.above} and {self.share}"
            )

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image or no such layer."""
        if not model.family.image_token:
            return "it counts sinks among image tokens, and this is a language model"
        return (
            None
            if self.layer < model.layers
            else f"layer {self.layer} is not there: it has layers 0..{model.layers - 1}"
        )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that finds the head and spreads its map."""
        return (SpreadHead(self.above, self.share, (self.layer,)),)


@final
@dataclass(frozen=True)
class SpreadHead(Intervention):
    """Give every head the pattern of the one with the densest visual sinks. See `Eah`. Neutral at `share=0`."""

    above: float
    share: float
    layers: tuple[int, ...]
    queries: Selector = AFTER_IMAGE
    site: ClassVar[str] = "pattern"

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the pattern with the head's map in the others."""
        known = here.state.setdefault((self, "head"), {})
        if here.layer not in known:
            known[here.layer] = self.densest(value.float(), here)
        best, any_sink = known[here.layer]
        index = best[:, None, None, None].expand(len(value), 1, *value.shape[2:])
        spread = (1 - self.share) * value + self.share * value.gather(1, index)
        return torch.where(here.queries(self.queries) & any_sink[:, None, None, None], spread, value)

    def densest(self, pattern: Tensor, here: Here) -> tuple[Tensor, Tensor]:
        """Return the head with the most visual sinks (batch), and whether it has any."""
        rows = here.queries(READING).float()
        occupied = pattern * here.visible.sum(-1, keepdim=True) * rows
        mean = occupied.sum(2) / rows.sum(2).clamp_min(1)
        count = ((mean > self.above) & here.keys(Segment.IMAGE)[:, :, 0]).sum(-1)
        return count.argmax(1), count.amax(1) > 0
