"""The segment of every token (`Layout`), and the part of its image that each image token covers (`Grid`, `Place`)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.data.short_repr import short_repr
from interp.data.tokens import Segment, Selector, tokens

Box = tuple[float, float, float, float]


@final
@dataclass(frozen=True)
class Grid:
    """One block of image tokens, `rows` × `cols` patches row by row, and the pixels of the original image that it covers.

    Args:
        image: index of the image in the prompt.
        box: x0, y0, x1, y1 in pixels of the original image; None for tokens without a position on it (Q-Former queries).
        tile: index of the tile of the image, in token order.
        newline: whether each row ends with an extra placeholder that is not a patch (a row separator).

    Raises:
        ValueError: rows or cols is below 1, or the box is empty.
    """

    image: int
    rows: int
    cols: int
    box: Box | None
    tile: int = 0
    newline: bool = False

    def __post_init__(self) -> None:
        """Refuse a grid without patches and an empty box."""
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"a grid needs at least one row and one column, got {self.rows} × {self.cols}")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"a pixel box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {self.box}")

    @property
    def placeholders(self) -> tuple[bool, ...]:
        """Whether each placeholder of this block in the prompt is a patch, in token order."""
        return (*[True] * self.cols, *[False] * self.newline) * self.rows

    def patch_box(self, row: int, col: int) -> Box | None:
        """Return the pixels of the original image that one patch covers, as (x0, y0, x1, y1); None without a box."""
        if self.box is None:
            return None
        x0, y0, x1, y1 = self.box
        width, height = (x1 - x0) / self.cols, (y1 - y0) / self.rows
        return (x0 + col * width, y0 + row * height, x0 + (col + 1) * width, y0 + (row + 1) * height)


@final
@dataclass(frozen=True)
class Place:
    """The position of one image token: its image, tile, row, column and pixel box."""

    image: int
    tile: int
    row: int
    col: int
    box: Box | None


@final
@dataclass(frozen=True, eq=False)
class Layout:
    """The segment of every token of one conversation, and the position of every image token on its image.

    Args:
        segment: the value of every token's `Segment`.
        grids: the blocks of image tokens, in token order.
        marks: positions by name (such as `sink`), which `marked(name)` selects; the prompts of a batch may have different ones.

    Raises:
        ValueError: the number of patches of the grids differs from the number of IMAGE tokens, or a mark is outside the conversation.
    """

    segment: Int[Tensor, " token"]
    grids: tuple[Grid, ...] = ()
    marks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse grids and marks that do not match the tokens."""
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

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows."""
        from interp.data import display

        return display.layout_card(self)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.segment)

    def mask(self, which: "Selector") -> Bool[Tensor, " token"]:
        """Return a mask of the tokens that a selector selects.

        Raises:
            IndexError: the selector names a position outside this layout.
        """
        return tokens(which).mask(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every token's segment."""
        named = {s.value: s.name for s in Segment}
        return tuple(named[v] for v in self.segment.tolist())

    def positions(self, which: "Selector") -> tuple[int, ...]:
        """Return the positions of the tokens that a selector selects."""
        return tuple(self.mask(which).nonzero().flatten().tolist())

    def places(self) -> dict[int, Place]:
        """Return the `Place` of every image token, by token position."""
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
        """Return the layout of the conversation without the tokens of one segment."""
        kept = self.segment[self.segment != segment.value]
        return Layout(kept, () if segment is Segment.IMAGE else self.grids)

    def marked(self, **positions: Iterable[int]) -> "Layout":
        """Return this layout with these named marks added to its own."""
        return replace(self, marks={**self.marks, **{n: tuple(p) for n, p in positions.items()}})
