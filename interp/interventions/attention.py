"""Changes to attention: before the softmax (scores) or after it (pattern)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EVERY, Segment, Selector
from interp.interventions.base import Here, Intervention, canonicalise

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
        canonicalise(self, "keys", "queries")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scores with the forbidden ones far below every other."""
        return forbidden(value, _touched(self, here) & here.heads(self.heads))


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
        canonicalise(self, "keys", "queries")
        _check_near(self.near)
        if self.by < 0:
            raise ValueError(f"a probability cannot be scaled by {self.by}; give a factor of 0 or more")
        check_renormalize(self.renormalize)

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the scaled pattern."""
        changed = _scaled(self, value, here)
        if self.above > 0:
            changed = torch.where(share(value, here.keys(self.keys)) >= self.above, changed, value)
        return renormalized(changed, value, here, self.renormalize)


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
        canonicalise(self, "queries")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is a share in [0, 1], got {self.beta}")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the flattened pattern."""
        seen = here.visible
        count = here.by_role("visible keys", make=lambda there: there.visible.sum(-1, keepdim=True).clamp_min(1))
        touched = here.by_role("shrunk", self.queries, make=lambda there: there.queries(self.queries) & there.visible)
        mean = (share(value, seen) / count).to(value.dtype)
        return torch.where(touched & here.heads(self.heads), torch.lerp(value, mean, self.beta), value)


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
        canonicalise(self, "source", "target", "queries")
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
    """Return which entries a change touches in the heads it acts on."""
    distance = None if isinstance(change, MaskAttention) else change.near

    def make(there: Here) -> Tensor:
        chosen = there.queries(change.queries) & there.keys(change.keys)
        return chosen if distance is None else chosen & near(there, distance)

    return here.by_role("touched", change.queries, change.keys, distance, make=make)


def _scaled(change: "ScaleScores | ScalePattern", value: Scores, here: Here) -> Scores:
    scaled = weighted(value, here, change.queries, ((change.keys, change.by),), change.near)
    chosen = here.heads(change.heads)
    return scaled if isinstance(chosen, bool) else torch.where(chosen, scaled, value)


def weighted(
    value: Scores,
    here: Here,
    queries: Selector,
    weights: tuple[tuple[Selector, float], ...],
    distance: int | None = None,
) -> Scores:
    """Return the value times a factor for some keys, in some rows; where a key has several, the first one counts.

    The factors are worked out once for all layers, in float32 or better, where 1.001 is not 1.
    """
    exact = torch.promote_types(value.dtype, torch.float32)

    def make(there: Here) -> Tensor:
        rows = there.queries(queries)
        touched = [(rows & there.keys(keys), by) for keys, by in weights]
        factors = torch.ones_like(touched[0][0], dtype=exact)
        for chosen, by in reversed(touched):
            factors = factors.masked_fill(chosen, by)
        return factors if distance is None else torch.where(near(there, distance), factors, 1)

    factors = here.by_role("factors", queries, weights, distance, exact, make=make)
    return (value * factors).to(value.dtype)


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
