"""IMCCD: contrasts the logits with those of a stream in which highly scored image tokens carry only the mean image value."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import AFTER_IMAGE, EMITTING, EVERY, Segment, Selector
from interp.decoding.second_stream import Combine, SecondStream, check_strength, constant_strength, contrast_logits
from interp.decoding.stream import Continuation
from interp.interventions.attention import Scores, attention_share
from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.interventions.here import Here, LayerKey
from interp.taps.running import running


@final
@dataclass(frozen=True)
class Imccd(SecondStream):
    """Inter-modality correlation calibration: `Contrast` with a stream in which attention to the image carries less information.

    In the second stream, in every layer and every row after the image, an image token whose score exceeds the row's mean over heads and
    image tokens keeps its attention, but contributes the mean value vector of the image tokens instead of its own. A token of the
    reply is contrasted only when the first stream's emitting row attends to the image (mean share over layers and heads) at least as
    much as the rows of the reply's first `window` tokens do on average.

    Args:
        alpha: strength of the contrast; 0 is neutral together with `beta=0`.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.
        window: how many of the first tokens enter the average that decides; 0 contrasts every token.
        mode: `ved` as described; `imccd`, which also mixes in scores at other rotary positions, is refused.
        variant: `paper` uses the mean value vector; `release` uses one number per head, the mean over the image tokens and the
            dimensions of the head.

    References: Li et al., IMCCD (2025, arXiv 2501.01926), and its released code: alpha 3, beta 0.2. Differs: this project
    reads the paper's masked values as the mean vector; the mean score is computed per row, where the code computes one over all rows
    that run at once, so that cached decoding and one pass agree; the prefix up to the image is processed again instead of shared;
    greedy decoding too.
    """

    alpha: float = 3.0
    beta: float = 0.2
    window: int = 30
    mode: Literal["ved", "imccd"] = "ved"
    variant: Literal["paper", "release"] = "paper"
    on_image: ClassVar[str] = "it changes what an image carries"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a negative alpha or window, beta outside [0, 1], an unknown mode or variant, or the mode that is not implemented.
        """
        check_strength(self.alpha, self.beta)
        if self.window < 0:
            raise ValueError(f"window is a number of tokens, 0 to contrast all of them, got {self.window}")
        if self.mode == "imccd":
            raise ValueError(
                "mode='imccd' scores the image again at other rotary positions, but queries and keys are available after rotation only, "
                "and the published versions of the code disagree on the positions; mode='ved' is the rest of the method"
            )
        if self.mode != "ved" or self.variant not in ("paper", "release"):
            raise ValueError(f"mode is 'ved' and variant 'paper' or 'release', got {self.mode!r} and {self.variant!r}")

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the recording of the first stream's attention to the image; it changes nothing."""
        return (WatchImage(),) if self._gated else ()

    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the stream with averaged values."""
        return Continuation(model, prompts, average_values(self.variant == "release"))

    def combine(self) -> Combine:
        """Return the contrast, which acts only at some tokens unless `window` is 0."""
        return _Gate(self.alpha, self.beta, self.window) if self._gated else constant_strength(self.alpha, self.beta)

    @property
    def _gated(self) -> bool:
        return self.window > 0 and self.alpha > 0


def average_values(over_dimensions: bool = False) -> tuple[Intervention, ...]:
    """Return the interventions by which highly scored image tokens contribute the mean value vector of the image tokens.

    Args:
        over_dimensions: average over the dimensions of a head too.
    """

    def edit(site: str, function: Callable[[Tensor, Here], Tensor], queries: Selector = EVERY) -> Apply:
        return Apply(site, function, queries=queries)

    # `v` itself cannot be replaced, because a key is averaged for some rows only. So the attention on such keys is removed from the
    # pattern, and the same share of the mean vector is added to z.
    return (
        edit("v", functools.partial(_average, over_dimensions)),
        edit("attn_scores", _find, AFTER_IMAGE),
        edit("pattern", _take, AFTER_IMAGE),
        edit("z", _give),
    )


def _average(over_dimensions: bool, value: Tensor, here: Here) -> Tensor:
    """Record the mean value vector of the image tokens (batch, kv_head, head_dim)."""
    image = here.keys(Segment.IMAGE)
    mean = (value.float() * image).sum(1) / image.sum(1).clamp_min(1)
    _kept(here)["mean"] = mean.mean(-1, keepdim=True).expand_as(mean) if over_dimensions else mean
    return value


def _find(scores: Tensor, here: Here) -> Tensor:
    """Record the image tokens whose score exceeds the mean of their row."""
    image = here.keys(Segment.IMAGE) & here.visible & here.queries(AFTER_IMAGE)
    total = (scores.float() * image).sum((1, 3), keepdim=True)
    mean = total / (image.sum((1, 3), keepdim=True) * scores.shape[1]).clamp_min(1)
    _kept(here)["high"] = image & (scores > mean)
    return scores


def _take(pattern: Tensor, here: Here) -> Tensor:
    """Return the pattern without those tokens, and record their share (batch, head, query)."""
    high = _kept(here)["high"]
    _kept(here)["share"], _kept(here)["rows"] = (pattern.float() * high).sum(-1), here.rows
    return pattern.masked_fill(high, 0)


def _give(z: Tensor, here: Here) -> Tensor:
    """Return z with that share of the mean value vector added."""
    mean = _kept(here)["mean"]
    mean = mean.repeat_interleave(z.shape[2] // mean.shape[1], 1)
    carried = _kept(here)["share"].transpose(1, 2)[..., None] * mean[:, None]
    rows = (_kept(here)["rows"] - here.rows[0]).to(z.device)
    return z.index_add(1, rows, carried.to(z.dtype))


def _kept(here: Here) -> dict[str, Tensor]:
    found: dict[str, Tensor] = here.state.setdefault(LayerKey(average_values, here.part, here.layer), {})
    return found


@final
@dataclass(frozen=True)
class WatchImage(Intervention):
    """Record the share of its attention that the newest row gives to the image, in every layer; changes nothing."""

    queries: Selector = EMITTING
    site: ClassVar[str] = "pattern"
    read_only: ClassVar[bool] = True

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Record the share (batch) by layer, averaged over heads."""
        shares = here.state.setdefault(WatchImage, {})
        shares[here.layer] = attention_share(value[:, :, -1:], here.keys(Segment.IMAGE))[:, :, 0, 0].mean(1)
        return value


@final
class _Gate:
    """Contrasts the tokens at which the first stream attends to the image at least as much as on average."""

    def __init__(self, alpha: float, beta: float, window: int) -> None:
        self.alpha, self.beta, self.window = alpha, beta, window
        self.shares: list[Tensor] = []

    def __call__(self, logits: Tensor, others: Tensor, step: int) -> Tensor:
        now = running.get()
        if now is None or WatchImage not in now.state.scratch:
            raise ValueError(
                "IMCCD reads how much the decoded stream attends to the image, which is available only in generate's own loop; "
                "give window=0 beside a method with a decoding loop of its own"
            )
        attended = torch.stack(list(now.state.scratch[WatchImage].values())).mean(0)
        self.shares = [*self.shares, attended][: self.window]
        off = attended < torch.stack(self.shares).mean(0)
        return contrast_logits(logits, others, torch.where(off, 0.0, self.alpha)[:, None].to(logits), self.beta)
