"""Selections of tokens: what they take of a layout, the laws they obey, how they are written and read."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.data.layout import Grid, Layout
from interp.data.tokens import EMITTING, EVERY, LAST, PREDICTING, SINKS, Segment, Tokens, marked, tokens

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


# ----------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("selection", "written"),
    [
        (EVERY, "EVERY"),
        (EMITTING - LAST, "PREDICTING"),
        (SINKS, "SINKS"),
        (marked("noun"), "marked('noun')"),
        (tokens(IMAGE), "IMAGE"),
        (IMAGE | USER, "IMAGE | USER"),
        ((SYSTEM | 3) - EMITTING, "(SYSTEM | tokens(3)) - EMITTING"),
        (EVERY - IMAGE - [0, -1], "(EVERY - IMAGE) - tokens([0, -1])"),
        (RESPONSE & PREDICTING, "RESPONSE & PREDICTING"),
        (tokens(range(30)), "tokens([0, 1, 2, 3, 4, 5, 6, 7, ... 30 in all])"),
    ],
    ids=str,
)
def test_a_selection_is_printed_as_it_is_written_in_code(selection, written):
    assert repr(selection) == str(selection) == written
    assert repr(IMAGE) == "IMAGE"


@pytest.mark.parametrize(
    ("name", "selection"),
    [("EVERY", EVERY), ("emitting", EMITTING), ("IMAGE | USER", IMAGE | USER), ("Image|sinks", IMAGE | SINKS)],
)
def test_a_selection_has_a_name(name, selection):
    assert tokens(name) == selection


@pytest.mark.usefixtures("unchecked")
def test_what_names_no_token_is_refused():
    with pytest.raises(ValueError, match=r"no tokens are called 'IMGE' \(did you mean IMAGE\?\); names: PAD, SYSTEM, "):
        tokens("USER | IMGE")
    for wrong in (1.5, None, [0.5], ["IMAGE"]):
        with pytest.raises(TypeError, match=r"tokens are a selection such as EMITTING, a Segment, .*; got "):
            tokens(wrong)
