import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.data.layout import Grid, Layout
from interp.data.tokens import EMITTING, EVERY, LAST, PREDICTING, Segment, Tokens, tokens

PAD, SYSTEM, IMAGE, USER, RESPONSE = Segment


def layout_of(text: str, *grids: Grid) -> Layout:
    """Return the layout that one letter a token spells: p, s, i, u, r."""
    return Layout(torch.tensor(["psiur".index(c) for c in text]), grids)


WHOLE = layout_of("ssiiiiuurr", Grid(0, 2, 2, (0.0, 0.0, 8.0, 4.0)))


# ------------------------------------------------------------------------------------------------------------ selections


@pytest.mark.parametrize(
    ("which", "positions"),
    [
        (SYSTEM, (0, 1)),
        (IMAGE, (2, 3, 4, 5)),
        (PAD, ()),
        (0, (0,)),
        (-1, (9,)),
        ([-2, 3, -10], (0, 3, 8)),
        (range(2), (0, 1)),
        ([], ()),
        (EVERY, tuple(range(10))),
        (LAST, (9,)),
        (EMITTING, (7, 8, 9)),
        (PREDICTING, (7, 8)),
        (USER | RESPONSE, (6, 7, 8, 9)),
        (SYSTEM | IMAGE | 9, (0, 1, 2, 3, 4, 5, 9)),
        (EMITTING & USER, (7,)),
        (SYSTEM - 0, (1,)),
        (EVERY - IMAGE - [0, -1], (1, 6, 7, 8)),
    ],
    ids=str,
)
def test_what_a_selection_takes(which, positions):
    assert WHOLE.positions(which) == positions
    assert WHOLE.mask(which).tolist() == [i in positions for i in range(10)]


def test_without_a_reply_the_last_prompt_token_emits_and_nothing_is_predicted():
    prompt = layout_of("suuu")
    assert prompt.positions(EMITTING) == (3,)
    assert prompt.positions(PREDICTING) == ()
    assert prompt.grown_to(6).positions(EMITTING) == (3, 4, 5)
    assert prompt.grown_to(6).positions(PREDICTING) == (3, 4)


@pytest.mark.parametrize("where", [10, -11, [0, 12]])
def test_positions_outside_are_refused(where):
    with pytest.raises(IndexError, match=r"positions \[(10|-11|12)\] are outside this conversation of 10 tokens"):
        WHOLE.mask(where)


def test_a_position_is_resolved_only_when_it_meets_a_layout():
    far = tokens(9)
    assert WHOLE.positions(far) == (9,)
    with pytest.raises(IndexError, match="4 tokens"):
        layout_of("suuu").mask(far)


def test_equal_selections_are_equal_values():
    assert tokens(SYSTEM) | 3 == SYSTEM | 3
    assert hash(EMITTING - LAST) == hash(PREDICTING)
    assert tokens([1, 2]) != tokens([2, 1])
    assert str((SYSTEM | 3) - EMITTING) == "((SYSTEM | positions(3)) - emitting())"


# Strategies draw plain text and data: the checks of shapes, which run while objects are made, draw random numbers themselves.
letters = st.builds(
    lambda s, u, r: "s" * s + "u" * u + "r" * r, st.integers(0, 4), st.integers(1, 5), st.integers(3, 6)
)
atoms = st.one_of(
    st.sampled_from([s.name for s in Segment]).map(lambda name: {"kind": "segment", "of": [name]}),
    st.sampled_from(["every", "emitting", "last"]).map(lambda kind: {"kind": kind, "of": []}),
    st.lists(st.integers(-4, 3), max_size=3).map(lambda where: {"kind": "positions", "of": where}),
)
selections = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda kind, *of: {"kind": kind, "of": [*of]}, st.sampled_from(["or", "and", "minus"]), inner, inner
    ),
)


@given(letters, selections, selections, selections)
def test_selections_obey_the_laws_of_sets(text, first, second, third):
    layout, (a, b, c) = layout_of(text), map(Tokens.from_dict, (first, second, third))

    def same(x, y):
        assert layout.mask(x).tolist() == layout.mask(y).tolist()

    same(EVERY - (a | b), (EVERY - a) & (EVERY - b))
    same(EVERY - (a & b), (EVERY - a) | (EVERY - b))
    same(a - b, a & (EVERY - b))
    same(a & (b | c), (a & b) | (a & c))
    same(a | b, b | a)
    same((a - b) | (a & b), a)
    assert not layout.mask(a - a).any()


@given(letters, selections)
def test_a_selection_survives_being_written_down(text, plain):
    chosen = Tokens.from_dict(plain)
    assert chosen.to_dict() == plain
    again = Tokens.from_dict(json.loads(json.dumps(chosen.to_dict())))
    assert again == chosen
    assert hash(again) == hash(chosen)
    assert layout_of(text).positions(again) == layout_of(text).positions(chosen)


@given(letters)
def test_every_token_has_one_segment(text):
    layout = layout_of(text)
    masks = torch.stack([layout.mask(s) for s in Segment])
    assert masks.sum(0).tolist() == [1] * len(layout)
    assert layout.mask(EMITTING).sum() == layout.mask(RESPONSE).sum() + 1
    assert layout.positions(PREDICTING) == tuple(p - 1 for p in layout.positions(RESPONSE))


@pytest.mark.parametrize("data", [{"kind": "eval", "of": []}, {"of": []}, {"kind": "every", "code": 1}])
def test_unknown_selections_are_refused(data):
    with pytest.raises(ValueError, match=r"a token selection is \{kind, of\} with kind one of \['and', 'emitting'"):
        Tokens.from_dict(data)


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
