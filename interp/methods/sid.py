"""SID: what the model says is set against what it says of the image tokens that it looks at least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import EMITTING, EVERY, Segment
from interp.interventions.attention import Scores, forbidden
from interp.interventions.base import Here, Intervention
from interp.methods.contrast import Contrast, SecondStream, check_images, check_strength

PUBLISHED = (100, 576)
"""How many image tokens are kept, of how many."""


@final
@dataclass(frozen=True)
class Sid(SecondStream):
    """Self-introspective decoding: `Contrast` with a stream that sees only the image tokens it looks at least.

    In the second stream every row that emits a token ranks the image tokens by its attention in layer `layer` - 1, the mean over
    heads; from `layer` on it sees the `rank` least attended of them and no other. The prompt's other rows see what its last
    row does. Positions stay as they are.

    Args:
        alpha: how far the two streams are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible.
        rank: how many image tokens are left; by default 100 of 576, as published, of as many as the prompt has.
        layer: the first layer in which the others are hidden; by default 2 of 32, as published, scaled to the model's depth.

    References: Huo et al., SID (ICLR 2025), and the mask of its released code. Differs: greedy decoding too, where the code changes
    only sampling; published numbers become shares of the image and of the depth.
    """

    alpha: float = 1.0
    beta: float = 0.1
    rank: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha, beta outside [0, 1], a rank below 1, or a first layer with none before it.
        """
        check_strength(self.alpha, self.beta)
        if any(x is not None and x < 1 for x in (self.rank, self.layer)):
            raise ValueError(f"rank and layer are at least 1, got {self.rank} and {self.layer}")

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image, or no layer to hide it in."""
        if not model.family.image_token:
            return "it hides image tokens, and this is a language model"
        if self._first(model) >= model.layers:
            return f"layer={self._first(model)} hides nothing: it has layers 0..{model.layers - 1}; give one of 1..{model.layers - 1}"
        return None

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the stream in which most of the image is hidden.

        Raises:
            ValueError: a prompt without an image, or one with no more image tokens than are left.
        """
        check_images(self, prompts)
        fewest = min(len(p.layout.positions(Segment.IMAGE)) for p in prompts)
        if self.rank is not None and self.rank >= fewest:
            raise ValueError(
                f"{self} leaves {self.rank} image tokens, and a prompt has only {fewest}, so nothing would be hidden; give a smaller rank"
            )
        first = self._first(model)
        chosen, hidden = RankImage(self.rank, (first - 1,)), HideImage(tuple(range(first, model.layers)))
        return Contrast(lambda p: p, self.alpha, self.beta, (chosen, hidden)).rules(model, prompts)

    def _first(self, model: Any) -> int:
        return max(1, round(2 * model.layers / 32)) if self.layer is None else self.layer


def left(count: int, rank: int | None) -> int:
    """Return how many of `count` image tokens are left: `rank`, or the published share of them, at least one."""
    return max(1, round(PUBLISHED[0] * count / PUBLISHED[1])) if rank is None else rank


@final
@dataclass(frozen=True)
class RankImage(Intervention):
    """SID's reading half: finds the image tokens each emitting row looks at least, and changes nothing."""

    rank: int | None
    layers: tuple[int, ...]
    queries: Any = EMITTING
    site: ClassVar[str] = "pattern"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Remember which image tokens are hidden from the emitting rows."""
        emitting = here.queries(EMITTING)[:, 0, :, 0].any(0)
        image = here.keys(Segment.IMAGE)[:, 0]
        looks = value[:, :, emitting].float().mean(1).masked_fill(~image, torch.inf)
        places = looks.argsort(stable=True).argsort(-1)
        counts = [left(n, self.rank) for n in image.sum((1, 2)).tolist()]
        hidden = image & (places >= torch.tensor(counts, device=value.device)[:, None, None])
        here.state[HideImage] = (hidden, here.rows[emitting.to(here.rows.device)])
        return value


@final
@dataclass(frozen=True)
class HideImage(Intervention):
    """SID's acting half: hides from each row what `RankImage` found."""

    layers: tuple[int, ...]
    queries: Any = EVERY
    site: ClassVar[str] = "attn_scores"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores without those of the hidden tokens."""
        return forbidden(value, here.once(HideImage, make=lambda: self._hidden(here)))

    def _hidden(self, here: Here) -> Tensor:
        """Return what each row does not see: what the emitting row at or after it does not."""
        hidden, rows = here.state[HideImage]
        index = torch.searchsorted(rows, here.rows).clamp_max(len(rows) - 1)
        return hidden[:, index.to(hidden.device)][:, None]
