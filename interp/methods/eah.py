"""EAH: in a shallow layer, gives every head the attention map of the head with the densest visual sinks."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from interp.data.tokens import AFTER_IMAGE, QUESTION, Segment, Selector
from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.method import Method


@final
@dataclass(frozen=True)
class Eah(Method):
    """Enhanced attention heads: a reconstruction.

    No code is public, and this project knows only the idea of the paper: in a shallow layer, the attention map of the head with
    the densest visual sinks is given to the other heads. Every value and every choice below is this project's and unverified:
    do not take its results for the paper's.

    An image token is a sink of a head when the prompt's rows after the image give it, on average, more than `above` times the
    attention of a uniform row. The head with the most sinks is determined for every prompt during prefill. In the rows after the
    image, the pattern of every head becomes (1 - share) · its own + share · that head's. Row sums do not change. Where no head has a
    sink, nothing is changed.

    Args:
        layer: the layer; the second by default.
        above: the bound for a sink, as a multiple of uniform attention.
        share: how much of the map is replaced; 0 is neutral.

    References: Zhang et al., Seeing clearly by layer two (2024), abstract. Differs: unknown.
    """

    layer: int = 1
    above: float = 1.0
    share: float = 1.0
    on_image: ClassVar[str] = "it counts sinks among image tokens"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative layer or bound, or a share outside [0, 1].
        """
        if self.layer < 0 or self.above < 0 or not 0 <= self.share <= 1:
            raise ValueError(
                "EAH takes a layer and a bound of at least 0 and a share in [0, 1], "
                f"got {self.layer}, {self.above} and {self.share}"
            )

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that does not have the layer."""
        there = self.layer < model.layers
        return None if there else f"layer {self.layer} does not exist: it has layers 0..{model.layers - 1}"

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that determines the head and spreads its map."""
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
        """Return the pattern with the head's map mixed into the other heads."""
        known = here.state.setdefault(self, {})
        if here.layer not in known:
            known[here.layer] = self.densest(value.float(), here)
        best, any_sink = known[here.layer]
        index = best[:, None, None, None].expand(len(value), 1, *value.shape[2:])
        spread = (1 - self.share) * value + self.share * value.gather(1, index)
        return torch.where(here.queries(self.queries) & any_sink[:, None, None, None], spread, value)

    def densest(self, pattern: Tensor, here: Here) -> tuple[Tensor, Tensor]:
        """Return the head with the most visual sinks (batch), and whether it has any."""
        rows = here.queries(QUESTION).float()
        occupied = pattern * here.visible.sum(-1, keepdim=True) * rows
        mean = occupied.sum(2) / rows.sum(2).clamp_min(1)
        count = ((mean > self.above) & here.keys(Segment.IMAGE)[:, :, 0]).sum(-1)
        return count.argmax(1), count.amax(1) > 0
