"""Grids and layouts: where image tokens are on their image, and what does not add up."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment

IMAGE, SYSTEM = Segment.IMAGE, Segment.SYSTEM


def layout_of(text: str, *grids: Grid) -> Layout:
    """Return the layout that one letter a token spells: p, s, i, u, r."""
    return Layout(torch.tensor(["psiur".index(c) for c in text]), grids)


WHOLE = layout_of("ssiiiiuurr", Grid(0, 2, 2, (0.0, 0.0, 8.0, 4.0)))


# ----------------------------------------------------------------------------------------------------------------- grids


def test_a_grid_says_which_pixels_a_patch_saw():
    grid = Grid(0, 2, 4, (10.0, 20.0, 50.0, 40.0))
    assert grid.patch_box(0, 0) == (10.0, 20.0, 20.0, 30.0)
    assert grid.patch_box(1, 3) == (40.0, 30.0, 50.0, 40.0)
    assert Grid(0, 1, 8, None).patch_box(0, 5) is None


def test_row_separators_are_no_patches():
    assert Grid(0, 2, 2, None, newline=True).placeholders == (True, True, False, True, True, False)
    assert Grid(0, 1, 3, None).placeholders == (True, True, True)


@pytest.mark.parametrize(("rows", "cols"), [(0, 3), (3, 0), (-1, 2)])
def test_empty_grids_are_refused(rows, cols):
    with pytest.raises(ValueError, match=f"at least one row and one column, got {rows} × {cols}"):
        Grid(0, rows, cols, None)


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 4.0), (5.0, 0.0, 1.0, 4.0), (0.0, 3.0, 2.0, 3.0)])
def test_empty_boxes_are_refused(box):
    with pytest.raises(ValueError, match=r"\(x0, y0, x1, y1\) with x0 < x1 and y0 < y1, got \("):
        Grid(0, 1, 1, box)


@given(st.integers(1, 6), st.integers(1, 6))
def test_patches_tile_the_box(rows, cols):
    grid = Grid(0, rows, cols, (3.0, 5.0, 45.0, 65.0))
    boxes = [grid.patch_box(r, c) for r in range(rows) for c in range(cols)]
    assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes) == pytest.approx(42 * 60)
    assert boxes[0][:2] == (3.0, 5.0)
    assert boxes[-1][2:] == pytest.approx((45.0, 65.0))


# --------------------------------------------------------------------------------------------------------------- layouts


def test_a_layout_says_where_every_image_token_sits():
    layout = layout_of("siiuiiu", Grid(0, 1, 2, (0.0, 0.0, 4.0, 2.0)), Grid(1, 2, 1, None, tile=3))
    places = layout.places()
    assert list(places) == [1, 2, 4, 5]
    assert (places[2].image, places[2].row, places[2].col, places[2].box) == (0, 0, 1, (2.0, 0.0, 4.0, 2.0))
    assert (places[5].image, places[5].tile, places[5].row, places[5].box) == (1, 3, 1, None)


def test_grids_that_do_not_match_the_tokens_are_refused():
    with pytest.raises(
        ValueError, match="grid 3 × 3 covers 9 tokens, but 4 are marked IMAGE; the processor and the family disagree"
    ):
        layout_of("siiiiu", Grid(0, 3, 3, None))
    with pytest.raises(ValueError, match="grid none covers 0 tokens, but 1 are marked IMAGE"):
        layout_of("siu")
    with pytest.raises(ValueError, match=r"grid 1 × 2 \+ 1 × 1 covers 3 tokens"):
        layout_of("siu", Grid(0, 1, 2, None), Grid(1, 1, 1, None))


def test_a_layout_grows_with_the_reply_and_never_shrinks():
    assert WHOLE.grown_to(12).segment.tolist() == [*WHOLE.segment.tolist(), 4, 4]
    assert WHOLE.grown_to(12).grids == WHOLE.grids
    with pytest.raises(ValueError, match="a layout of 10 tokens cannot grow to 9"):
        WHOLE.grown_to(9)


def test_a_segment_can_be_taken_out():
    assert WHOLE.without(IMAGE).segment.tolist() == [1, 1, 3, 3, 4, 4]
    assert WHOLE.without(IMAGE).grids == ()
    assert WHOLE.without(SYSTEM).grids == WHOLE.grids


def test_every_token_is_called_by_its_segment_in_order() -> None:
    values = [Segment.SYSTEM.value, Segment.USER.value, Segment.USER.value, Segment.RESPONSE.value]
    assert Layout(torch.tensor(values)).names == ("SYSTEM", "USER", "USER", "RESPONSE")
