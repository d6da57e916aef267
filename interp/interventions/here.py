"""`Here`: where in the model and in the conversation a value is, as an intervention sees it.

An intervention asks `Here` for tokens by role (`here.keys(Segment.IMAGE)`, `here.queries(EMITTING)`) and gets masks that broadcast
against its value; cached decoding, batches and left padding are already accounted for. `here.state` keeps what one layer or step must
tell another. `Roles` is what the running pass answers with, `QueryRows` the rows that a value has.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.data.heads import Heads
from interp.data.sites import SCORE_SITES
from interp.data.tokens import EMITTING, EVERY, Selector, Tokens, tokens

STREAM_AXES: tuple[str | int, ...] = ("batch", "query", 1)
AXES_OF: dict[str, tuple[str | int, ...]] = {
    **dict.fromkeys(SCORE_SITES, ("batch", 1, "query", "key")),
    **dict.fromkeys(("k", "v"), ("batch", "key", 1, 1)),
    **dict.fromkeys(("q", "z"), ("batch", "query", 1, 1)),
}
"""The axes of a mask that broadcasts against the value of a site; `STREAM_AXES` for every other site."""


@final
class QueryRows:
    """Query rows that are seen together in one forward call, with the masks worked out for them.

    Args:
        positions: the position of every row, ascending, padding counted.
    """

    def __init__(self, positions: Tensor) -> None:
        """Note first and last row as numbers, so that no mask waits for a device."""
        self.positions = positions
        self.first, self.last = (int(positions[0]), int(positions[-1])) if len(positions) else (0, -1)
        self.together = self.last - self.first + 1 == len(positions)
        self.known: dict[Any, Any] = {}


class Roles(abc.ABC):
    """What a running pass knows about its tokens."""

    @abc.abstractmethod
    def mask(self, which: Tokens) -> Bool[Tensor, "batch token"]:
        """Return which tokens a selection takes, for every sample of the batch; padding is never taken."""

    @abc.abstractmethod
    def foresee(self, here: "Here", make: Callable[..., Any], settings: tuple[Any, ...]) -> Any:
        """Return `make(here, *settings)` for the one row of a decoding step, worked out for many steps at once where that is possible."""

    @abc.abstractmethod
    def heads(self, here: "Here", chosen: Heads) -> Bool[Tensor, "..."]:
        """Return which heads of a layer are chosen, shaped to broadcast against the value."""


@final
@dataclass(frozen=True)
class Here:
    """Where in the model and in the conversation a value is. Masks broadcast against the value.

    Args:
        part: one of `interp.data.sites.PARTS`.
        layer: index of the block, from 0.
        site: one of `interp.data.sites.SITES`.
        step: 0 while the prompt is read, then the number of decoding steps so far.
        key_span: first and last-plus-one position of the keys.
        row_set: the query rows of the value.
        head_count: how many heads the value has.
        state: a dictionary that lives as long as the pass, for what one layer or step must tell another. Use keys that are
            unique: the intervention itself, or `LayerKey(intervention, part, layer)`.
        masks: what the pass knows about its tokens.
        device: where the value is.
    """

    part: str
    layer: int
    site: str
    step: int
    key_span: tuple[int, int]
    row_set: QueryRows
    head_count: int
    state: dict[Any, Any]
    masks: Roles
    device: torch.device | str = "cpu"

    @property
    def rows(self) -> Int[Tensor, " query"]:
        """The position of every query row, padding counted."""
        return self.row_set.positions

    @property
    def roles(self) -> Roles | None:
        """The tokens' roles; None outside the decoder, where tokens have none."""
        return self.masks if self.part == "decoder" else None

    @property
    def axes(self) -> tuple[str | int, ...]:
        """The axes of a mask that broadcasts against the value."""
        return AXES_OF.get(self.site, STREAM_AXES)

    def once(self, make: Callable[..., Any], *settings: Any) -> Any:
        """Return `make(here, *settings)`, called once a forward call for the same rows and keys: for what is the same in every layer.

        Args:
            make: a method or a function with a name of its own, since it is part of the key.
            settings: hashable values that the result depends on.
        """
        known, key = self.row_set.known, (make, settings, AXES_OF.get(self.site, STREAM_AXES), self.key_span)
        found = known.get(key)
        if found is None:
            found = known[key] = make(self, *settings)
        return found

    def by_role(self, make: Callable[..., Any], *settings: Any) -> Any:
        """Return `make(here, *settings)` where that follows from the tokens' roles and positions alone, such as a mask or a factor.

        It is called once a forward call, and in decoding once for many steps to come.

        Args:
            make: a method or a function with a name of its own, since it is part of the key; it is given a `Here` with the rows and keys
                of many steps and returns a tensor that broadcasts against the value there.
            settings: hashable values that the result depends on.
        """
        known, key = self.row_set.known, (make, settings, AXES_OF.get(self.site, STREAM_AXES), self.key_span)
        found = known.get(key)
        if found is None:
            ahead = self.step > 0 and len(self.row_set.positions) == 1 and self.part == "decoder"
            found = self.masks.foresee(self, make, settings) if ahead else make(self, *settings)
            known[key] = found
        return found

    def keys(self, which: Selector) -> Bool[Tensor, "..."]:
        """Return which keys a selection takes, shaped to broadcast against the value."""
        return self.by_role(_keys, tokens(which))

    def queries(self, which: Selector) -> Bool[Tensor, "..."]:
        """Return which query rows a selection takes, shaped to broadcast against the value."""
        return self.by_role(_queries, tokens(which))

    def heads(self, chosen: Heads | None) -> Bool[Tensor, "..."] | bool:
        """Return which heads of this layer are chosen, shaped to broadcast against the value; True for None, which is all."""
        return True if chosen is None else self.masks.heads(self, chosen)

    @property
    def positions(self) -> Int[Tensor, "batch query"]:
        """The position of every query row in its own conversation, padding not counted; negative in the padding."""
        mask = self.mask(EVERY)
        return self.rows.to(mask.device) - (~mask).sum(-1, keepdim=True)

    @property
    def visible(self) -> Bool[Tensor, "batch 1 query key"]:
        """Which keys each query row may see in causal attention: no padding, nothing behind it."""
        return self.by_role(_visible)

    @property
    def emitting(self) -> Bool[Tensor, "..."]:
        """Which query rows emit a response token, shaped to broadcast against the value."""
        return self.queries(EMITTING)

    def mask(self, which: Selector) -> Bool[Tensor, "batch token"]:
        """Return which tokens of the conversations a selection takes, cached ones included.

        Raises:
            ValueError: outside the decoder, where tokens have no roles.
        """
        if self.part != "decoder":
            raise ValueError(f"the {self.part} has no conversation: tokens cannot be selected by role there")
        return self.masks.mask(tokens(which))


@final
@dataclass(frozen=True)
class LayerKey:
    """The key in `here.state` of what an intervention keeps for one layer.

    Args:
        owner: the intervention.
        part: of `Here`.
        layer: of `Here`.
    """

    owner: Any
    part: str
    layer: int


def _keys(here: Here, which: Tokens) -> Tensor:
    return _shaped(here, here.mask(which)[:, slice(*here.key_span)], "key")


def _queries(here: Here, which: Tokens) -> Tensor:
    mask, rows = here.mask(which), here.row_set
    # A slice copies nothing to the device, which an index of rows would.
    chosen = mask[:, rows.first : rows.last + 1] if rows.together else mask[:, rows.positions.to(mask.device)]
    return _shaped(here, chosen, "query")


def _visible(here: Here) -> Tensor:
    every = here.keys(EVERY)
    positions = torch.arange(*here.key_span, device=every.device)
    return every & (positions <= here.rows.to(every.device)[:, None])


def _shaped(here: Here, mask: Tensor, axis: str) -> Tensor:
    if axis not in here.axes:
        raise ValueError(f"{here.site} has no {axis} axis")
    return mask.view([mask.shape[0] if a == "batch" else mask.shape[1] if a == axis else 1 for a in here.axes])
