"""Masks and factors that follow from the tokens' roles alone, worked out once for many layers and decoding steps.

In decoding, Python rather than arithmetic costs the time of a token. So a mask is worked out for `FORESEEN` tokens to come, and each step
takes its slice; a selection that moves with the end of the conversation (`LAST`, negative positions) is worked out at every step.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from interp.data.heads import Heads
from interp.data.sites import SCORE_SITES
from interp.data.tokens import Tokens
from interp.interventions.here import Here, QueryRows, Roles
from interp.taps.state import Conversations

FORESEEN = 64
"""For how many tokens to come masks are worked out."""


class _Foreseen(NamedTuple):
    """What was worked out for the rows from `first` on; no value where it moves with the end of the conversation."""

    first: int
    value: Tensor | None

    def at(self, row: int, keys: tuple[int, int], axes: tuple[str | int, ...]) -> Tensor:
        """Return the slice for one row and a span of keys; an axis of size 1 is the same everywhere."""
        value = self.value
        assert value is not None  # noqa: S101  # `foresee` has checked
        query, key = slice(row - self.first, row - self.first + 1), slice(*keys)
        every = slice(None)
        return value[
            tuple(
                every if size == 1 else query if axis == "query" else key if axis == "key" else every
                for axis, size in zip(axes, value.shape, strict=False)
            )
        ]


@final
class MaskCache(Roles):
    """The masks of one pass: of the forward call that runs now, whose rows are `new_rows`, and of many decoding steps to come."""

    def __init__(self, roles: Conversations) -> None:
        """Know nothing yet."""
        self.roles = roles
        self.horizon = roles.length
        self._now: dict[Any, Any] = {}
        self._rows: dict[frozenset[Tokens] | int | None, QueryRows] = {}
        self._ahead: dict[Tokens, Tensor] = {}
        self._foreseen: dict[Any, _Foreseen] = {}
        self._needed: dict[frozenset[Tokens], list[bool]] = {}
        self._heads: dict[Any, Tensor] = {}
        self._made_for = (roles.batch, roles.device)
        self.new_rows = QueryRows(torch.arange(roles.past, roles.length))

    def renew(self) -> None:
        """Forget the last forward call, and what was foreseen where that no longer holds; called when the conversations have moved on."""
        roles = self.roles
        if self._made_for != (roles.batch, roles.device) or roles.length > self.horizon:
            for known in (self._ahead, self._foreseen, self._needed, self._heads):
                known.clear()
            self._made_for, self.horizon = (roles.batch, roles.device), roles.length + FORESEEN
        self._now.clear()
        self._rows.clear()
        self.new_rows = QueryRows(torch.arange(roles.past, roles.length))

    def mask(self, which: Tokens) -> Tensor:
        """Return which tokens a selection takes, on the model's device; padding is never taken."""
        found = self._now.get(which)
        if found is None:
            known = self.roles.mask(which) if which.from_end else self.ahead(which)
            found = self._now[which] = known[:, : self.roles.length]
        return found

    def ahead(self, which: Tokens) -> Tensor:
        """Return `mask(which)` with the tokens up to the horizon, as replies that go on."""
        if which not in self._ahead:
            self._ahead[which] = self.roles.mask_to(which, self.horizon).to(self.roles.device)
        return self._ahead[which]

    def heads(self, here: Here, chosen: Heads) -> Tensor:
        """Return which heads of a layer are chosen, shaped to broadcast against the value."""
        axis = 1 if here.site in SCORE_SITES else 2
        key = (chosen, here.layer, axis, here.head_count, here.device)
        found = self._heads.get(key)
        if found is None:
            mask = torch.zeros(here.head_count, dtype=torch.bool, device=here.device)
            mask[list(chosen.of_layer(here.layer))] = True
            found = self._heads[key] = mask.view([-1 if i == axis else 1 for i in range(4)])
        return found

    def query_rows(self, which: frozenset[Tokens] | int | None) -> QueryRows:
        """Return some of the new rows: the last so many, or those that any of some selections takes; all for None."""
        found = self._rows.get(which)
        if found is None:
            rows = self.new_rows.positions
            if isinstance(which, int):
                rows = rows[-which:]
            elif which is not None:
                some = self.eager_rows(which, len(rows))
                rows = rows if some is None else rows[some]
            found = self._rows[which] = QueryRows(rows)
        return found

    def eager_rows(self, several: frozenset[Tokens], queries: int) -> Tensor | None:
        """Return which of the last `queries` rows any of some selections takes in any sample: indices, or None for all of them."""
        key = (several, queries)
        if key not in self._now:
            rows = [i for i, needed in enumerate(self._any(several)[-queries:]) if needed]
            self._now[key] = None if len(rows) == queries else torch.tensor(rows, dtype=torch.long)
        return self._now[key]

    def _any(self, several: frozenset[Tokens]) -> list[bool]:
        """Return of every token whether any of some selections takes it in any sample, without waiting for a device."""
        if any(w.from_end for w in several):
            return self._any_to(several, self.roles.length)
        if several not in self._needed:
            self._needed[several] = self._any_to(several, self.horizon)
        return self._needed[several][: self.roles.length]

    def _any_to(self, several: frozenset[Tokens], length: int) -> list[bool]:
        return torch.cat([self.roles.mask_to(w, length) for w in several]).any(0).tolist()

    def foresee(self, here: Here, make: Callable[..., Any], settings: tuple[Any, ...]) -> Any:
        """Return `make(here, *settings)` for one row, as a slice of what was worked out for all rows up to the horizon."""
        row, key = here.row_set.first, (make, settings, here.axes)
        known = self._foreseen.get(key)
        # A row before the first one that is known: the cache was cut back.
        if known is None or known.first > row:
            ahead = _Ahead(self)
            rows = QueryRows(torch.arange(row, self.horizon))
            there = replace(here, step=0, masks=ahead, key_span=(0, self.horizon), row_set=rows)
            made = make(there, *settings)
            known = self._foreseen[key] = _Foreseen(row, None if ahead.moves else made)
        return make(here, *settings) if known.value is None else known.at(row, here.key_span, here.axes)


@final
class _Ahead(Roles):
    """The tokens up to the horizon, and whether anything was asked of them that moves with the end of the conversation."""

    def __init__(self, masks: MaskCache) -> None:
        self.masks, self.moves = masks, False

    def mask(self, which: Tokens) -> Tensor:
        self.moves |= which.from_end
        return self.masks.ahead(which)

    def foresee(self, here: Here, make: Callable[..., Any], settings: tuple[Any, ...]) -> Any:
        return make(here, *settings)

    def heads(self, here: Here, chosen: Heads) -> Tensor:
        return self.masks.heads(here, chosen)
