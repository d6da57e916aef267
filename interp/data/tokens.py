"""Selections of tokens as values: by segment, by position, by role in decoding, by mark.

Segment: the parts of a conversation.
Tokens: a selection; it is resolved to positions only when it meets a layout (see `interp.data.layout`).
EVERY, EMITTING, PREDICTING, LAST, SINKS: the selections that most arguments are given.
tokens: a selection from anything that an argument for tokens accepts, names included.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.registry import nearest

LONGEST_REPR = 8
"""A selection of more positions than this is abbreviated when it is printed."""


@final
class Segment(Enum):
    """The part of the conversation a token belongs to.

    SYSTEM is everything before the first image token, IMAGE the patch tokens alone, USER the prompt's text after it
    (all of it when there is no image), RESPONSE what is generated or teacher-forced. PAD is not part of the conversation.
    """

    PAD, SYSTEM, IMAGE, USER, RESPONSE = range(5)

    def __or__(self, other: "Selector") -> "Tokens":
        """Return the tokens of either."""
        return tokens(self) | other

    def __and__(self, other: "Selector") -> "Tokens":
        """Return the tokens of both."""
        return tokens(self) & other

    def __sub__(self, other: "Selector") -> "Tokens":
        """Return this segment without the other's tokens."""
        return tokens(self) - other

    def __repr__(self) -> str:
        """Return the name alone, as in `IMAGE | USER`."""
        return self.name


@runtime_checkable
class Conversation(Protocol):
    """What a selection needs to know about a conversation; `interp.data.layout.Layout` is one."""

    @property
    def segment(self) -> Int[Tensor, " token"]:
        """The segment of every token, as the number of its `Segment`."""

    @property
    def marks(self) -> Mapping[str, tuple[int, ...]]:
        """Positions by the name they are marked with."""

    def __len__(self) -> int:
        """Return the number of tokens."""


@final
@dataclass(frozen=True)
class Tokens:
    """A selection of tokens as a value, resolved to positions when it meets a layout. Make one with `tokens(...)`.

    Selections combine with `|` (either), `&` (both) and `-` (without).
    """

    kind: str
    of: tuple[Any, ...] = ()

    def __hash__(self) -> int:
        """Return the hash, computed once: selections are looked up in every layer of every step."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.kind, self.of))

    def __or__(self, other: "Selector") -> "Tokens":
        """Return the tokens of either."""
        return Tokens("or", (self, tokens(other)))

    def __and__(self, other: "Selector") -> "Tokens":
        """Return the tokens of both."""
        return Tokens("and", (self, tokens(other)))

    def __sub__(self, other: "Selector") -> "Tokens":
        """Return these tokens without the other's."""
        return Tokens("minus", (self, tokens(other)))

    def mask(self, layout: Conversation) -> Bool[Tensor, " token"]:
        """Return which tokens of a layout this selects.

        Raises:
            IndexError: a position lies outside the layout.
        """
        return _KINDS[self.kind](layout, *self.of)

    @property
    def from_end(self) -> bool:
        """Whether the selected positions move when the conversation grows."""
        inside = any(x.from_end for x in self.of if isinstance(x, Tokens))
        return inside or self.kind == "last" or (self.kind == "positions" and any(i < 0 for i in self.of))

    @property
    def reach(self) -> int:
        """The least number of tokens of a conversation that has every position named here."""
        inside = [x.reach for x in self.of if isinstance(x, Tokens)]
        return max([0, *inside, *(i + 1 for i in self.of if self.kind == "positions")])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `Tokens.from_dict` reads back."""
        plain = [x.to_dict() if isinstance(x, Tokens) else x for x in self.of]
        return {"kind": self.kind, "of": plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Tokens":
        """Return the selection that `to_dict` described.

        Raises:
            ValueError: the kind is not one of the known ones.
        """
        if data.get("kind") not in _KINDS or set(data) - {"kind", "of"}:
            raise ValueError(f"a token selection is {{kind, of}} with kind one of {sorted(_KINDS)}, got {dict(data)}")
        return cls(data["kind"], tuple(cls.from_dict(x) if isinstance(x, Mapping) else x for x in data.get("of", ())))

    def __repr__(self) -> str:
        """Return the selection as it is written in code: `EMITTING`, `IMAGE | USER`, `tokens([3, 4])`."""
        if self in _NAMES:
            return _NAMES[self]
        if self.kind in _SIGNS:
            return _SIGNS[self.kind].join(f"({x})" if x.kind in _SIGNS and x not in _NAMES else f"{x}" for x in self.of)
        if self.kind == "segment":
            return " | ".join(self.of)
        if self.kind != "positions":
            return f"{self.kind}({', '.join(map(repr, self.of))})"
        if len(self.of) == 1:
            return f"tokens({self.of[0]})"
        shown = ", ".join(map(str, self.of[:LONGEST_REPR]))
        return f"tokens([{shown}])" if len(self.of) <= LONGEST_REPR else f"tokens([{shown}, ... {len(self.of)} in all])"


Selector = Tokens | Segment | str | int | Iterable[int]
"""Anything that an argument for tokens accepts: a selection, a segment, a name (`"IMAGE | USER"`), a position, or positions."""


def tokens(which: Selector) -> Tokens:
    """Return the selection that a segment, a name, a position or several positions stand for.

    Names are those of segments and of `EVERY`, `EMITTING`, `PREDICTING`, `LAST` and `SINKS`, joined with `|`; letter case does not matter.

    Raises:
        ValueError: an unknown name; suggests the nearest.
        TypeError: anything else.
    """
    if isinstance(which, Tokens):
        return which
    if isinstance(which, Segment):
        return Tokens("segment", (which.name,))
    if isinstance(which, str):
        return functools.reduce(operator.or_, [_of_name(name.strip()) for name in which.split("|")])
    try:
        return Tokens(
            "positions", (operator.index(which),) if not isinstance(which, Iterable) else _positions_of(which)
        )
    except TypeError:
        raise TypeError(
            f"tokens are a selection such as EMITTING, a Segment, a name such as 'IMAGE | USER', or positions; got {which!r:.80}"
        ) from None


def _positions_of(which: Iterable[int]) -> tuple[int, ...]:
    return tuple(map(operator.index, which))


def _of_name(name: str) -> Tokens:
    known = {s.name: tokens(s) for s in Segment} | {n: selection for selection, n in _NAMES.items()}
    if name.upper() not in known:
        near = nearest(name.upper(), known)
        raise ValueError(f"no tokens are called {name!r}{near}; names: {', '.join(known)}, joined with |")
    return known[name.upper()]


EVERY = Tokens("every")
"""Every token of the conversation."""
EMITTING = Tokens("emitting")
"""The rows whose logits are a response token: the last prompt token and every response token."""
SINKS = Tokens("marked", ("sink",))
"""The tokens marked as attention sinks: `prompt.marked(sink=...)` marks them."""
LAST = Tokens("last")
"""The last token."""
PREDICTING = EMITTING - LAST
"""The rows whose logits are a token of a teacher-forced reply: each of its tokens is predicted one row earlier."""
AFTER_IMAGE = Segment.USER | Segment.RESPONSE
"""The text after the image, of prompt and reply; without an image, all text but the system prompt."""
PROMPT = EVERY - Segment.RESPONSE
"""The tokens of the prompt."""
QUESTION = (Segment.USER | EMITTING) - Segment.RESPONSE
"""The prompt's tokens after the image, and its last token in any case."""

_NAMES = {EVERY: "EVERY", EMITTING: "EMITTING", PREDICTING: "PREDICTING", LAST: "LAST", SINKS: "SINKS"}
_SIGNS = {"or": " | ", "and": " & ", "minus": " - "}


def _segments(layout: Conversation, *names: str) -> Tensor:
    wanted = torch.tensor([Segment[n].value for n in names], device=layout.segment.device)
    return torch.isin(layout.segment, wanted)


def _positions(layout: Conversation, *where: int) -> Tensor:
    outside = [i for i in where if not -len(layout) <= i < len(layout)]
    if outside:
        raise IndexError(f"positions {outside} are outside this conversation of {len(layout)} tokens")
    chosen = torch.zeros(len(layout), dtype=torch.bool, device=layout.segment.device)
    chosen[list(where)] = True
    return chosen


def _marked(layout: Conversation, name: str) -> Tensor:
    if name not in layout.marks:
        have = f"it has {', '.join(sorted(layout.marks))}" if layout.marks else "it has none"
        raise IndexError(
            f"no tokens are marked {name!r} in this conversation ({have}); mark them: prompt.marked({name}=positions)"
        )
    return _positions(layout, *layout.marks[name])


def marked(name: str) -> Tokens:
    """Return the selection of the tokens that a prompt marks with a name: `prompt.marked(name=positions)`."""
    return Tokens("marked", (name,))


def _emitting(layout: Conversation) -> Tensor:
    response = _segments(layout, "RESPONSE")
    first = int(response.int().argmax()) if response.any() else len(layout)
    chosen = response.clone()
    chosen[first - 1] = True
    return chosen


_KINDS: dict[str, Callable[..., Tensor]] = {
    "segment": _segments,
    "positions": _positions,
    "marked": _marked,
    "emitting": _emitting,
    "every": lambda layout: torch.ones(len(layout), dtype=torch.bool, device=layout.segment.device),
    "last": lambda layout: _positions(layout, -1),
    "or": lambda layout, a, b: a.mask(layout) | b.mask(layout),
    "and": lambda layout, a, b: a.mask(layout) & b.mask(layout),
    "minus": lambda layout, a, b: a.mask(layout) & ~b.mask(layout),
}
