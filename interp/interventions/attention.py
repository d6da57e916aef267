"""Changes to attention: before the softmax (scores) or after it (pattern)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data import EVERY, Segment, Selector
from interp.heads import Heads
from interp.interventions import Here, Intervention, settled

Scores = Float[Tensor, "batch head query key"]


@final
@dataclass(frozen=True)
class MaskAttention(Intervention):
    """Forbid some queries to see some keys; the softmax gives their share to the others.

    A row none of whose visible keys is left attends uniformly to them: it is never empty and never sees the future.
    Neutral when `queries` or `keys` takes nothing.
    """

    keys: Selector
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Settle selectors, layers and heads."""
        settled(self, "keys", "queries")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores with the forbidden ones far below every other."""
        return forbidden(value, _touched(self, here))


@final
@dataclass(frozen=True)
class ScaleScores(Intervention):
    """Multiply the scores from some queries to some keys.

    `signed` multiplies as VAF and SPEAR publish it, which lowers the probability of a negative score when `by` > 1;
    `abs` adds (by - 1)·|score|, which always raises it. `near` keeps to keys 1 to `near` tokens before the row. Neutral at
    `by=1`.
    """

    keys: Selector
    by: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    mode: Literal["signed", "abs"] = "signed"
    near: int | None = None
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Settle selectors, layers and heads.

        Raises:
            ValueError: an unknown mode, or a distance below 1.
        """
        settled(self, "keys", "queries")
        _check_near(self.near)
        if self.mode not in ("signed", "abs"):
            raise ValueError(f"mode is 'signed' or 'abs', got {self.mode!r}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scaled scores."""
        scaled = value * self.by if self.mode == "signed" else value + (self.by - 1) * value.abs()
        return torch.where(_touched(self, here), scaled, value)


@final
@dataclass(frozen=True)
class ScalePattern(Intervention):
    """Multiply the probabilities from some queries to some keys, after the softmax. Neutral at `by=1`.

    Args:
        keys: whose share is multiplied.
        by: the factor, at least 0.
        queries: in which rows.
        layers: in which layers; all by default.
        heads: in which heads; all by default.
        renormalize: `none` leaves the row sums as they become, `row` divides every touched row by its sum, `segment` gives
            every segment of the conversation the share it had before.
        above: touch only the rows (per head) that give the keys at least this share together.
        near: touch only keys 1 to `near` tokens before the row; any distance by default.
    """

    keys: Selector
    by: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    renormalize: Literal["none", "row", "segment"] = "none"
    above: float = 0.0
    near: int | None = None
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Settle selectors, layers and heads.

        Raises:
            ValueError: a negative factor, an unknown way to renormalise, or a distance below 1.
        """
        settled(self, "keys", "queries")
        _check_near(self.near)
        if self.by < 0:
            raise ValueError(f"a probability cannot be scaled by {self.by}; give a factor of 0 or more")
        check_renormalize(self.renormalize)

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scaled pattern."""
        touched = _touched(self, here)
        if self.above > 0:
            touched = touched & (share(value, here.keys(self.keys)) >= self.above)
        return renormalized(torch.where(touched, value * self.by, value), value, here, self.renormalize)


@final
@dataclass(frozen=True)
class ShrinkPattern(Intervention):
    """Pull every probability of a row towards the row's mean: A* = (1 - β) A + β mean(A), over the keys the row may see.

    Row sums stay as they are, and nothing goes to the future. Neutral at `beta=0`; at 1 the row is uniform.

    References: AIR (supplement C.2), the last step of its projection; the earlier steps are inert in decoding (methods
    section 6.2). Differs: the mean runs over the keys that a row may see, where the release includes masked ones.
    """

    beta: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Settle selectors, layers and heads.

        Raises:
            ValueError: beta outside [0, 1].
        """
        settled(self, "queries")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is a share in [0, 1], got {self.beta}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the flattened pattern."""
        seen = here.visible
        mean = share(value, seen) / seen.sum(-1, keepdim=True).clamp_min(1)
        touched = here.queries(self.queries) & seen & here.heads(self.heads)
        return torch.where(touched, (1 - self.beta) * value + self.beta * mean.to(value.dtype), value)


@final
@dataclass(frozen=True)
class RedistributePattern(Intervention):
    """Take a share of the attention on some keys and give it to others, in proportion to what those have. Row sums stay.

    A row that gives the target nothing keeps what it has. Neutral at `share=0`.

    Args:
        source: whose attention is taken.
        target: who gets it.
        share: how much of it, in [0, 1].
        queries: in which rows.
        layers: in which layers.
        heads: in which heads.

    References: the redistribution of VAR / VisAttnSink (methods section 10), whose p is 1 - share. Differs: no.
    """

    source: Selector
    target: Selector
    share: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Settle selectors, layers and heads.

        Raises:
            ValueError: a share outside [0, 1].
        """
        settled(self, "source", "target", "queries")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share lies in [0, 1], got {self.share}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the pattern with the share moved."""
        source, target = here.keys(self.source), here.keys(self.target) & ~here.keys(self.source)
        freed, has = self.share * share(value, source), share(value, target)
        rows = here.queries(self.queries) & here.heads(self.heads) & (has > 0)
        moved = torch.where(source, value * (1 - self.share), value)
        gain = (1 + freed / has.clamp_min(torch.finfo(torch.float32).tiny)).to(value.dtype)
        return torch.where(rows, torch.where(target, moved * gain, moved), value)


def forbidden(scores: Scores, which: Bool[Tensor, "..."]) -> Scores:
    """Return scores with some of them far below every other, though not so far that adding the causal mask overflows."""
    return scores.masked_fill(which, -1e30 if torch.finfo(scores.dtype).max > 1e35 else -3e4)


def share(pattern: Scores, keys: Bool[Tensor, "..."]) -> Float[Tensor, "batch head query 1"]:
    """Return how much of each row's attention some keys get together, in float32."""
    return (pattern.float() * keys).sum(-1, keepdim=True)


def renormalized(changed: Scores, before: Scores, here: Here, how: str) -> Scores:
    """Return a changed pattern with its sums restored.

    `none` restores nothing, `row` brings every changed row to 1, `segment` every segment of a changed row to what it had.
    """
    if how == "none":
        return changed
    tiny = torch.finfo(torch.float32).tiny
    rows = (changed != before).any(-1, keepdim=True)
    if how == "row":
        total = changed.sum(-1, keepdim=True, dtype=torch.float32).clamp_min(tiny)
        return torch.where(rows, (changed / total).to(changed.dtype), before)
    factor = torch.ones_like(changed, dtype=torch.float32)
    for segment in (Segment.SYSTEM, Segment.IMAGE, Segment.USER, Segment.RESPONSE):
        keys = here.keys(segment)
        factor = torch.where(keys, share(before, keys) / share(changed, keys).clamp_min(tiny), factor)
    return torch.where(rows, (changed * factor).to(changed.dtype), before)


def _touched(change: "MaskAttention | ScaleScores | ScalePattern", here: Here) -> Bool[Tensor, "..."]:
    def make() -> Tensor:
        chosen = here.queries(change.queries) & here.keys(change.keys) & here.heads(change.heads)
        return chosen if isinstance(change, MaskAttention) or change.near is None else chosen & near(here, change.near)

    here.memo[id(change)] = change  # alive, so that no other gets its id
    return here.once("touched", id(change), None if change.heads is None else here.layer, make=make)


def near(here: Here, distance: int) -> Bool[Tensor, "query key"]:
    """Return which keys stand 1 to `distance` tokens before each row."""
    back = here.rows[:, None] - torch.arange(*here.key_span)
    return ((back >= 1) & (back <= distance)).to(here.keys(EVERY).device)


def _check_near(distance: int | None) -> None:
    if distance is not None and distance < 1:
        raise ValueError(f"near is a distance of at least 1 token, or None for any distance, got {distance}")


def check_renormalize(how: str) -> None:
    """Refuse an unknown way to restore the sums of a changed pattern.

    Raises:
        ValueError: `how` is none of those that `renormalized` knows.
    """
    if how not in ("none", "row", "segment"):
        raise ValueError(f"renormalize is 'none', 'row' or 'segment', got {how!r}")
