"""Interventions on attention, before the softmax (scores) or after it (pattern).

MaskAttention, ScaleScores: on the scores. ScalePattern, ShrinkPattern, RedistributePattern: on the pattern.
The functions below them are the shared algebra, for interventions of your own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EVERY, Segment, Selector, Tokens
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here

Scores = Float[Tensor, "batch head query key"]


@final
@dataclass(frozen=True)
class MaskAttention(Intervention):
    """Mask some keys for some queries; the softmax gives their share to the other keys.

    A row with all of its visible keys masked attends uniformly to them: a row is never empty and never sees the future.
    Neutral when `queries` or `keys` selects nothing.
    """

    keys: Selector
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Put selectors, layers and heads into canonical form."""
        canonicalise(self, "keys", "queries")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores with the masked ones far below all others."""
        return forbid(value, _touched(self, here) & here.heads(self.heads))


@final
@dataclass(frozen=True)
class ScaleScores(Intervention):
    """Multiply the scores from some queries to some keys.

    `signed` multiplies as published for VAF and SPEAR, which lowers the probability of a key with a negative score when `by` > 1;
    `abs` adds (by - 1)·|score|, which always raises it. `near` restricts the keys to those 1 to `near` tokens before the row.
    Neutral at `by=1`.
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
        """Put selectors, layers and heads into canonical form.

        Raises:
            ValueError: an unknown mode, or a distance below 1.
        """
        canonicalise(self, "keys", "queries")
        _check_near(self.near)
        if self.mode not in ("signed", "abs"):
            raise ValueError(f"mode is 'signed' or 'abs', got {self.mode!r}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scaled scores."""
        if self.mode == "signed":
            return _scaled(self, value, here)
        touched = _touched(self, here) & here.heads(self.heads)
        return torch.where(touched, value + (self.by - 1) * value.abs(), value)


@final
@dataclass(frozen=True)
class ScalePattern(Intervention):
    """Multiply the probabilities from some queries to some keys, after the softmax. Neutral at `by=1`.

    Args:
        keys: the keys whose probabilities are multiplied.
        by: the factor, at least 0.
        queries: the rows.
        layers: the layers; all by default.
        heads: the heads; all by default.
        renormalize: `none` does not restore the row sums, `row` divides every changed row by its sum, `segment` gives
            every segment of the conversation its previous share.
        above: act only in the rows (per head) that give the keys at least this share together.
        near: act only on keys 1 to `near` tokens before the row; any distance by default.
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
        """Put selectors, layers and heads into canonical form.

        Raises:
            ValueError: a negative factor, an unknown renormalisation, or a distance below 1.
        """
        canonicalise(self, "keys", "queries")
        _check_near(self.near)
        if self.by < 0:
            raise ValueError(f"a probability cannot be scaled by {self.by}; give a factor of 0 or more")
        check_renormalize(self.renormalize)

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scaled pattern."""
        changed = _scaled(self, value, here)
        if self.above > 0:
            changed = torch.where(attention_share(value, here.keys(self.keys)) >= self.above, changed, value)
        return restore_sums(changed, value, here, self.renormalize)


@final
@dataclass(frozen=True)
class ShrinkPattern(Intervention):
    """Pull every probability of a row towards the row's mean: A* = (1 - β) A + β mean(A), over the keys the row may see.

    Row sums do not change, and no attention goes to the future. Neutral at `beta=0`; at 1 the row is uniform.

    References: AIR (supplement C.2), the last step of its projection; the earlier steps have no effect in decoding (methods
    section 6.2). Differs: the mean runs over the keys that a row may see, where the release includes masked ones.
    """

    beta: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Put selectors, layers and heads into canonical form.

        Raises:
            ValueError: beta outside [0, 1].
        """
        canonicalise(self, "queries")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is a share in [0, 1], got {self.beta}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the flattened pattern."""
        seen = here.visible
        count = here.by_role(_visible_keys)
        touched = here.by_role(_visible_from, self.queries)
        mean = (attention_share(value, seen) / count).to(value.dtype)
        return torch.where(touched & here.heads(self.heads), torch.lerp(value, mean, self.beta), value)


@final
@dataclass(frozen=True)
class RedistributePattern(Intervention):
    """Move a share of the attention on some keys to other keys, in proportion to their attention. Row sums do not change.

    A row without attention on the target is not changed. Neutral at `share=0`.

    Args:
        source: the keys whose attention is reduced.
        target: the keys that receive it.
        share: the share of the source's attention that is moved, in [0, 1].
        queries: the rows.
        layers: the layers; all by default.
        heads: the heads; all by default.

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
        """Put selectors, layers and heads into canonical form.

        Raises:
            ValueError: a share outside [0, 1].
        """
        canonicalise(self, "source", "target", "queries")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share lies in [0, 1], got {self.share}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the pattern with the share moved."""
        source, target = here.keys(self.source), here.keys(self.target) & ~here.keys(self.source)
        freed, has = self.share * attention_share(value, source), attention_share(value, target)
        rows = here.queries(self.queries) & here.heads(self.heads) & (has > 0)
        moved = torch.where(source, value * (1 - self.share), value)
        gain = (1 + freed / has.clamp_min(torch.finfo(torch.float32).tiny)).to(value.dtype)
        return torch.where(rows, torch.where(target, moved * gain, moved), value)


def forbid(scores: Scores, which: Bool[Tensor, "..."]) -> Scores:
    """Return scores with some of them far below all others, but not so far that adding the causal mask overflows."""
    # Not -inf: a row with all of its visible keys masked would become NaN. With a finite value it is uniform over the visible keys.
    return scores.masked_fill(which, -1e30 if torch.finfo(scores.dtype).max > 1e35 else -3e4)


def attention_share(pattern: Scores, keys: Bool[Tensor, "..."]) -> Float[Tensor, "batch head query 1"]:
    """Return the total attention of each row on some keys, in float32."""
    return (pattern.float() * keys).sum(-1, keepdim=True)


def restore_sums(changed: Scores, before: Scores, here: Here, how: str) -> Scores:
    """Return a changed pattern with its sums restored.

    `none` restores nothing, `row` scales every changed row to sum 1, `segment` every segment of a changed row to its previous sum.
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
        factor = torch.where(
            keys, attention_share(before, keys) / attention_share(changed, keys).clamp_min(tiny), factor
        )
    return torch.where(rows, (changed * factor).to(changed.dtype), before)


def _touched(intervention: "MaskAttention | ScaleScores | ScalePattern", here: Here) -> Bool[Tensor, "..."]:
    """Return the entries that an intervention changes in its heads."""
    distance = None if isinstance(intervention, MaskAttention) else intervention.near
    return here.by_role(_entries, intervention.queries, intervention.keys, distance)


def _entries(here: Here, queries: Tokens, keys: Tokens, distance: int | None) -> Tensor:
    chosen = here.queries(queries) & here.keys(keys)
    return chosen if distance is None else chosen & near(here, distance)


def _visible_keys(here: Here) -> Tensor:
    """Return how many keys each row may see."""
    return here.visible.sum(-1, keepdim=True).clamp_min(1)


def _visible_from(here: Here, queries: Tokens) -> Tensor:
    """Return which keys some rows may see."""
    return here.queries(queries) & here.visible


def _scaled(intervention: "ScaleScores | ScalePattern", value: Scores, here: Here) -> Scores:
    scaled = scale_keys(value, here, intervention.queries, ((intervention.keys, intervention.by),), intervention.near)
    chosen = here.heads(intervention.heads)
    return scaled if isinstance(chosen, bool) else torch.where(chosen, scaled, value)


def scale_keys(
    value: Scores,
    here: Here,
    queries: Selector,
    weights: tuple[tuple[Selector, float], ...],
    distance: int | None = None,
) -> Scores:
    """Return the value times a factor for some keys, in some rows; where a key has several factors, the first applies.

    The factors are computed once for all layers, in float32 or better: in bfloat16, 1.001 would be 1.
    """
    exact = torch.promote_types(value.dtype, torch.float32)
    return (value * here.by_role(_factors, queries, weights, distance, exact)).to(value.dtype)


def _factors(
    here: Here,
    queries: Selector,
    weights: tuple[tuple[Selector, float], ...],
    distance: int | None,
    exact: torch.dtype,
) -> Tensor:
    """Return the factor of every row and key."""
    rows = here.queries(queries)
    touched = [(rows & here.keys(keys), by) for keys, by in weights]
    factors = torch.ones_like(touched[0][0], dtype=exact)
    for chosen, by in reversed(touched):
        factors = factors.masked_fill(chosen, by)
    return factors if distance is None else torch.where(near(here, distance), factors, 1)


def near(here: Here, distance: int) -> Bool[Tensor, "query key"]:
    """Return which keys are 1 to `distance` tokens before each row."""
    back = here.rows[:, None] - torch.arange(*here.key_span)
    return ((back >= 1) & (back <= distance)).to(here.keys(EVERY).device)


def _check_near(distance: int | None) -> None:
    if distance is not None and distance < 1:
        raise ValueError(f"near is a distance of at least 1 token, or None for any distance, got {distance}")


def check_renormalize(how: str) -> None:
    """Refuse an unknown argument `how` of `restore_sums`.

    Raises:
        ValueError: `how` is not none, row or segment.
    """
    if how not in ("none", "row", "segment"):
        raise ValueError(f"renormalize is 'none', 'row' or 'segment', got {how!r}")
