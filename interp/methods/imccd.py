"""IMCCD: what the model says is set against what it says when the image tokens it scores high carry only their average."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import EMITTING, EVERY, Segment, Selector
from interp.interventions.attention import Scores, share
from interp.interventions.base import Here, Intervention
from interp.interventions.function import Apply
from interp.interventions.method import Method
from interp.methods.contrast import (
    Contrast,
    Contrasted,
    check_images,
    check_strength,
    combined,
    constant,
    several_replies,
)
from interp.methods.vaf import AFTER_IMAGE
from interp.taps.running import running


@final
@dataclass(frozen=True)
class Imccd(Method):
    """Inter-modality correlation calibration: `Contrast` with a stream whose attention to the image carries less.

    In the second stream, in every layer and every row after the image, an image token whose score lies above the row's mean over
    heads and image tokens is attended to as before, but what is carried from it is the mean value of the image tokens. A token of the
    reply is contrasted only when the first stream's emitting row looks at the image (the mean share over layers and heads) as much
    as the rows of the reply's first `window` tokens up to now do on average.

    Args:
        alpha: how far the two streams are set apart; 0 is neutral together with `beta=0`.
        beta: the least share of the likeliest token's probability that makes a token plausible.
        window: the first so many tokens make the average that decides; 0 contrasts every token.
        mode: `ved` is this; `imccd`, which besides mixes in scores at other rotary positions, is refused.
        variant: `paper` carries the mean value vector, `release` one number a head, the mean over the image tokens and the
            dimensions of the head.

    References: Li et al., IMCCD (2025, arXiv 2501.01926), and its released code: alpha 3, beta 0.2. Differs: that the paper's
    masked values become the mean vector is this project's reading; the mean score is a row's own, where the code takes one over
    all rows that run at once, so that cached decoding and one pass agree; the prefix up to the image is read again instead of
    shared; greedy decoding too.
    """

    alpha: float = 3.0
    beta: float = 0.2
    window: int = 30
    mode: Literal["ved", "imccd"] = "ved"
    variant: Literal["paper", "release"] = "paper"

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: a negative alpha or window, beta outside [0, 1], an unknown mode or variant, or the mode that is not here.
        """
        check_strength(self.alpha, self.beta)
        if self.window < 0:
            raise ValueError(f"window is a number of tokens, 0 to contrast all of them, got {self.window}")
        if self.mode == "imccd":
            raise ValueError(
                "mode='imccd' scores the image again at other rotary positions, but queries and keys are seen after rotation only, "
                "and the published versions of the code disagree on the positions; mode='ved' is the rest of it"
            )
        if self.mode != "ved" or self.variant not in ("paper", "release"):
            raise ValueError(f"mode is 'ved' and variant 'paper' or 'release', got {self.mode!r} and {self.variant!r}")

    @property
    def passes(self) -> int:
        """Two: one for each stream."""
        return 2

    def refusal(self, model: Any) -> str | None:
        """Say that a language model has no image."""
        return None if model.family.image_token else "it changes what an image carries, and this is a language model"

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say that beams are not followed."""
        return several_replies(options)

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return what watches how much the first stream looks at the image; it changes nothing."""
        return (WatchImage(),) if self._gated else ()

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the rule that follows the stream with averaged values."""
        check_images(self, prompts)
        stream = Contrast(other_interventions=averaged(self.variant == "release")).stream(model, prompts)
        plain = functools.partial(constant, self.alpha, self.beta)
        return (Contrasted(stream, _Gate(self.alpha, self.beta, self.window) if self._gated else plain),)

    @property
    def _gated(self) -> bool:
        return self.window > 0 and self.alpha > 0


def averaged(over_dimensions: bool = False) -> tuple[Intervention, ...]:
    """Return the edits that let image tokens with high scores carry the mean value of the image tokens.

    Args:
        over_dimensions: take the mean over the dimensions of a head too.
    """

    def edit(site: str, function: Callable[[Tensor, Here], Tensor], queries: Selector = EVERY) -> Apply:
        return Apply(site, function, queries=queries)

    return (
        edit("v", functools.partial(_average, over_dimensions)),
        edit("attn_scores", _find, AFTER_IMAGE),
        edit("pattern", _take, AFTER_IMAGE),
        edit("z", _give),
    )


def _average(over_dimensions: bool, value: Tensor, here: Here) -> Tensor:
    """Remember the mean value of the image tokens (batch, kv_head, head_dim)."""
    image = here.keys(Segment.IMAGE)
    mean = (value.float() * image).sum(1) / image.sum(1).clamp_min(1)
    _kept(here)["mean"] = mean.mean(-1, keepdim=True).expand_as(mean) if over_dimensions else mean
    return value


def _find(scores: Tensor, here: Here) -> Tensor:
    """Remember the image tokens whose score is above their row's mean."""
    image = here.keys(Segment.IMAGE) & here.visible & here.queries(AFTER_IMAGE)
    total = (scores.float() * image).sum((1, 3), keepdim=True)
    mean = total / (image.sum((1, 3), keepdim=True) * scores.shape[1]).clamp_min(1)
    _kept(here)["high"] = image & (scores > mean)
    return scores


def _take(pattern: Tensor, here: Here) -> Tensor:
    """Return the pattern without those tokens, and remember the share (batch, head, query) they had."""
    high = _kept(here)["high"]
    _kept(here)["share"], _kept(here)["rows"] = (pattern.float() * high).sum(-1), here.rows
    return pattern.masked_fill(high, 0)


def _give(z: Tensor, here: Here) -> Tensor:
    """Return z with that share of the mean value in it."""
    mean = _kept(here)["mean"]
    mean = mean.repeat_interleave(z.shape[2] // mean.shape[1], 1)
    carried = _kept(here)["share"].transpose(1, 2)[..., None] * mean[:, None]
    rows = (_kept(here)["rows"] - here.rows[0]).to(z.device)
    return z.index_add(1, rows, carried.to(z.dtype))


def _kept(here: Here) -> dict[str, Tensor]:
    found: dict[str, Tensor] = here.state.setdefault((averaged, here.layer), {})
    return found


@final
@dataclass(frozen=True)
class WatchImage(Intervention):
    """Looks how much of its attention the newest row gives to the image, in every layer, and changes nothing."""

    queries: Selector = EMITTING
    site: ClassVar[str] = "pattern"
    read_only: ClassVar[bool] = True

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Remember the head mean of the share (batch) by layer."""
        looks = here.state.setdefault(WatchImage, {})
        looks[here.layer] = share(value[:, :, -1:], here.keys(Segment.IMAGE))[:, :, 0, 0].mean(1)
        return value


@final
class _Gate:
    """Contrasts the tokens at which the first stream looks at the image as much as it did on average."""

    def __init__(self, alpha: float, beta: float, window: int) -> None:
        self.alpha, self.beta, self.window = alpha, beta, window
        self.looks: list[Tensor] = []

    def __call__(self, logits: Tensor, others: Tensor, step: int) -> Tensor:
        now = running.get()
        if now is None or WatchImage not in now.state:
            raise ValueError(
                "IMCCD asks how much the decoded stream looks at the image, which only generate's own loop shows; "
                "give window=0 beside a method with a decoding loop of its own"
            )
        looks = torch.stack(list(now.state[WatchImage].values())).mean(0)
        self.looks = [*self.looks, looks][: self.window]
        off = looks < torch.stack(self.looks).mean(0)
        return combined(logits, others, torch.where(off, 0.0, self.alpha)[:, None].to(logits), self.beta)
