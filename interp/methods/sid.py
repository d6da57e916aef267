"""SID: contrasts the logits with those computed from the least attended image tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import EMITTING, EVERY, Segment
from interp.decoding.second_stream import SecondStream, check_strength
from interp.decoding.stream import Continuation
from interp.interventions.attention import Scores, forbid
from interp.interventions.base import Intervention
from interp.interventions.here import Here

KEPT_OF_IMAGE = (100, 576)
"""The published number of image tokens that stay visible, and the number of image tokens."""


@final
@dataclass(frozen=True)
class Sid(SecondStream):
    """Self-introspective decoding: `Contrast` with a stream that sees only the least attended image tokens.

    In the second stream, every row that emits a token ranks the image tokens by its attention in layer `layer` - 1, averaged over
    heads. From `layer` on, it sees only the `rank` least attended of them. The prompt's other rows see the same image tokens as its
    last row. Positions do not change.

    Args:
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.
        rank: how many image tokens stay visible; by default the published share of them, 100 of 576.
        layer: the first layer in which the others are hidden; by default 2 of 32, as published, scaled to the model's depth.

    References: Huo et al., SID (ICLR 2025), and the mask of its released code. Differs: greedy decoding too, where the code changes
    only sampling; published numbers become shares of the image and of the depth.
    """

    alpha: float = 1.0
    beta: float = 0.1
    rank: int | None = None
    layer: int | None = None
    on_image: ClassVar[str] = "it hides image tokens"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], a rank below 1, or a first layer below 1.
        """
        check_strength(self.alpha, self.beta)
        if any(x is not None and x < 1 for x in (self.rank, self.layer)):
            raise ValueError(f"rank and layer are at least 1, got {self.rank} and {self.layer}")

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no layer from `layer` on."""
        if self._first(model) >= model.layers:
            return f"layer={self._first(model)} hides nothing: it has layers 0..{model.layers - 1}; give one of 1..{model.layers - 1}"
        return None

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream in which most of the image is hidden.

        Raises:
            ValueError: a prompt with no more image tokens than stay visible.
        """
        fewest = min(len(p.layout.positions(Segment.IMAGE)) for p in prompts)
        if self.rank is not None and self.rank >= fewest:
            raise ValueError(
                f"{self} keeps {self.rank} image tokens visible, and a prompt has only {fewest}, so nothing is hidden; give a smaller rank"
            )
        first = self._first(model)
        chosen, hidden = RankImage(self.rank, (first - 1,)), HideImage(tuple(range(first, model.layers)))
        return Continuation(model, prompts, (chosen, hidden))

    def _first(self, model: Any) -> int:
        return max(1, round(2 * model.layers / 32)) if self.layer is None else self.layer


def visible_count(count: int, rank: int | None) -> int:
    """Return how many of `count` image tokens stay visible: `rank`, or the published share of them, at least one."""
    return max(1, round(KEPT_OF_IMAGE[0] * count / KEPT_OF_IMAGE[1])) if rank is None else rank


@final
@dataclass(frozen=True)
class RankImage(Intervention):
    """The first half of SID: ranks the image tokens by the attention of each emitting row, and changes nothing."""

    rank: int | None
    layers: tuple[int, ...]
    queries: Any = EMITTING
    site: ClassVar[str] = "pattern"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Record which image tokens are hidden from the emitting rows, and return the pattern."""
        emitting = here.queries(EMITTING)[:, 0, :, 0].any(0)
        image = here.keys(Segment.IMAGE)[:, 0]
        attended = value[:, :, emitting].float().mean(1).masked_fill(~image, torch.inf)
        places = attended.argsort(stable=True).argsort(-1)
        counts = [visible_count(n, self.rank) for n in image.sum((1, 2)).tolist()]
        hidden = image & (places >= torch.tensor(counts, device=value.device)[:, None, None])
        # One slot for all layers: the ranking comes from a single layer, and every layer above it hides the same tokens.
        here.state[HideImage] = (hidden, here.rows[emitting.to(here.rows.device)])
        return value


@final
@dataclass(frozen=True)
class HideImage(Intervention):
    """The second half of SID: hides from each row the image tokens that `RankImage` recorded."""

    layers: tuple[int, ...]
    queries: Any = EVERY
    site: ClassVar[str] = "attn_scores"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores with those of the hidden tokens masked."""
        return forbid(value, here.once(self._hidden))

    def _hidden(self, here: Here) -> Tensor:
        """Return the hidden tokens of each row: those of the first emitting row at or after it."""
        hidden, rows = here.state[HideImage]
        index = torch.searchsorted(rows, here.rows).clamp_max(len(rows) - 1)
        return hidden[:, index.to(hidden.device)][:, None]
