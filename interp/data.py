"""The nouns: what a token belongs to, what part of the image it saw, what a pass kept. Plain frozen data that no model is needed for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Box = tuple[float, float, float, float]


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


@final
@dataclass(frozen=True)
class Grid:
    """One block of image tokens, `rows` × `cols` patches row by row, and the pixels of the original image it saw.

    Args:
        image: index of the image in the prompt.
        box: x0, y0, x1, y1 in pixels of the original image; None for tokens that have no place on it (Q-Former queries).
        tile: index of the tile of the image, in token order.
        newline: whether each row ends in one more placeholder that is no patch (a row separator).

    Raises:
        ValueError: rows or cols below one, or an empty box.
    """

    image: int
    rows: int
    cols: int
    box: Box | None
    tile: int = 0
    newline: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a grid needs at least one row and one column, got {self.rows} × {self.cols}")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"a pixel box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {self.box}")

    @property
    def placeholders(self) -> tuple[bool, ...]:
        """For every placeholder of this block in the prompt: is it a patch?"""
        return (*[True] * self.cols, *[False] * self.newline) * self.rows

    def patch_box(self, row: int, col: int) -> Box | None:
        """Return the pixels of the original image that one patch saw."""
        if self.box is None:
            return None
        x0, y0, x1, y1 = self.box
        width, height = (x1 - x0) / self.cols, (y1 - y0) / self.rows
        return (x0 + col * width, y0 + row * height, x0 + (col + 1) * width, y0 + (row + 1) * height)


@final
@dataclass(frozen=True)
class Place:
    """Where on its image one token sits."""

    image: int
    tile: int
    row: int
    col: int
    box: Box | None


@final
@dataclass(frozen=True, eq=False)
class Layout:
    """The segment of every token of one conversation, and the place of every image token.

    Args:
        segment: the value of every token's `Segment`.
        grids: the blocks of image tokens, in token order.
        marks: positions under a name (`sink`), which `marked(name)` selects; they may differ from prompt to prompt of a batch.

    Raises:
        ValueError: the grids cover another number of tokens than are marked IMAGE, or a mark lies outside.
    """

    segment: Int[Tensor, " token"]
    grids: tuple[Grid, ...] = ()
    marks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse grids that do not match the tokens."""
        want, have = sum(g.rows * g.cols for g in self.grids), int((self.segment == Segment.IMAGE.value).sum())
        if want != have:
            sizes = " + ".join(f"{g.rows} × {g.cols}" for g in self.grids) or "none"
            raise ValueError(
                f"grid {sizes} covers {want} tokens, but {have} are marked IMAGE; "
                "the processor and the family disagree: see Family.grids"
            )
        outside = {n: p for n, p in self.marks.items() if any(not 0 <= i < len(self.segment) for i in p)}
        if outside:
            raise ValueError(f"marks {outside} lie outside this conversation of {len(self.segment)} tokens")

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.segment)

    def mask(self, which: "Selector") -> Bool[Tensor, " token"]:
        """Return which tokens a selector takes.

        Raises:
            IndexError: the selector names a position that this layout does not have.
        """
        return tokens(which).mask(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every token's segment."""
        named = {s.value: s.name for s in Segment}
        return tuple(named[v] for v in self.segment.tolist())

    def positions(self, which: "Selector") -> tuple[int, ...]:
        """Return the positions of the tokens a selector takes."""
        return tuple(self.mask(which).nonzero().flatten().tolist())

    def places(self) -> dict[int, Place]:
        """Return the place of every image token, by position."""
        where = [
            Place(g.image, g.tile, r, c, g.patch_box(r, c))
            for g in self.grids
            for r in range(g.rows)
            for c in range(g.cols)
        ]
        return dict(zip(self.positions(Segment.IMAGE), where, strict=True))

    def grown_to(self, length: int) -> "Layout":
        """Return this layout with RESPONSE tokens appended until it has `length` tokens."""
        extra = length - len(self)
        if extra < 0:
            raise ValueError(f"a layout of {len(self)} tokens cannot grow to {length}")
        return replace(self, segment=torch.cat([self.segment, self.segment.new_full((extra,), Segment.RESPONSE.value)]))

    def without(self, segment: Segment) -> "Layout":
        """Return the layout of the conversation with one segment's tokens taken out."""
        kept = self.segment[self.segment != segment.value]
        return Layout(kept, () if segment is Segment.IMAGE else self.grids)

    def marked(self, **positions: Iterable[int]) -> "Layout":
        """Return this layout with positions marked under names, beside the marks it has."""
        return replace(self, marks={**self.marks, **{n: tuple(p) for n, p in positions.items()}})


@final
@dataclass(frozen=True)
class Tokens:
    """A selection of tokens as a value: what it takes is decided when it meets a layout. Make one with `tokens(...)`.

    Selections combine with `|` (either), `&` (both) and `-` (without).
    """

    kind: str
    of: tuple[Any, ...] = ()

    def __hash__(self) -> int:
        """Return the hash, worked out once: selections are looked up in every layer of every step."""
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

    def mask(self, layout: Layout) -> Bool[Tensor, " token"]:
        """Return which tokens of a layout this takes.

        Raises:
            IndexError: a position lies outside the layout.
        """
        return _KINDS[self.kind](layout, *self.of)

    @property
    def from_end(self) -> bool:
        """Whether what it takes moves when the conversation grows."""
        inside = any(x.from_end for x in self.of if isinstance(x, Tokens))
        return inside or self.kind == "last" or (self.kind == "positions" and any(i < 0 for i in self.of))

    @property
    def reach(self) -> int:
        """How many tokens a conversation has at least that holds every position named here."""
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

    def __str__(self) -> str:
        """Return the selection the way it is written."""
        signs = {"or": " | ", "and": " & ", "minus": " - "}
        if self.kind in signs:
            return "(" + signs[self.kind].join(map(str, self.of)) + ")"
        return "|".join(map(str, self.of)) if self.kind == "segment" else f"{self.kind}({', '.join(map(str, self.of))})"


Selector = Tokens | Segment | int | Iterable[int]
"""What every argument that asks for tokens takes: a selection, a segment, a position, or positions."""


def tokens(which: Selector) -> Tokens:
    """Return the selection that a segment, a position or several positions stand for; a selection is returned as it is."""
    if isinstance(which, Tokens):
        return which
    if isinstance(which, Segment):
        return Tokens("segment", (which.name,))
    if isinstance(which, int):
        return Tokens("positions", (which,))
    return Tokens("positions", tuple(int(i) for i in which))


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


def _segments(layout: Layout, *names: str) -> Tensor:
    wanted = torch.tensor([Segment[n].value for n in names], device=layout.segment.device)
    return torch.isin(layout.segment, wanted)


def _positions(layout: Layout, *where: int) -> Tensor:
    outside = [i for i in where if not -len(layout) <= i < len(layout)]
    if outside:
        raise IndexError(f"positions {outside} are outside this conversation of {len(layout)} tokens")
    chosen = torch.zeros(len(layout), dtype=torch.bool, device=layout.segment.device)
    chosen[list(where)] = True
    return chosen


def _marked(layout: Layout, name: str) -> Tensor:
    if name not in layout.marks:
        have = f"it has {', '.join(sorted(layout.marks))}" if layout.marks else "it has none"
        raise IndexError(
            f"no tokens are marked {name!r} in this conversation ({have}); mark them: prompt.marked({name}=positions)"
        )
    return _positions(layout, *layout.marks[name])


def marked(name: str) -> Tokens:
    """Return the selection of the tokens that each prompt has marked with a name."""
    return Tokens("marked", (name,))


def _emitting(layout: Layout) -> Tensor:
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
