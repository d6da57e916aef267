import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.data.heads import Heads
from interp.data.layout import Layout
from interp.data.tokens import AFTER_IMAGE, EMITTING, LAST, SINKS, Segment
from interp.interventions.attention import (
    MaskAttention,
    RedistributePattern,
    ScalePattern,
    ScaleScores,
    ShrinkPattern,
)
from interp.interventions.base import from_dict, kinds
from interp.taps.running import Pass
from interp.taps.state import Conversations, PassState

_, _, IMAGE, USER, RESPONSE = Segment
LAYOUT = Layout(torch.tensor([1, 3, 3, 4]))
CAUSAL = torch.full((4, 4), -torch.inf).triu(1)
SOME = Heads(((0, 1), (1, 3)))
EXAMPLES = {
    "mask": lambda model: (MaskAttention(SINKS, AFTER_IMAGE), MaskAttention(Segment.PAD, AFTER_IMAGE)),
    "mask heads": lambda model: (
        MaskAttention(Segment.USER, EMITTING, heads=SOME),
        MaskAttention(Segment.PAD, EMITTING, heads=SOME),
    ),
    "scores": lambda model: (ScaleScores(Segment.USER, 2.0, AFTER_IMAGE), ScaleScores(Segment.USER, 1.0, AFTER_IMAGE)),
    "absolute scores": lambda model: (ScaleScores(0, 3.0, mode="abs"), ScaleScores(0, 1.0, mode="abs")),
    "pattern": lambda model: (
        ScalePattern(Segment.USER, 0.3, EMITTING, renormalize="row"),
        ScalePattern(Segment.USER, 1.0, EMITTING, renormalize="row"),
    ),
    "segments": lambda model: (
        ScalePattern(0, 0.0, renormalize="segment"),
        ScalePattern(0, 1.0, renormalize="segment"),
    ),
    "above": lambda model: (
        ScalePattern(Segment.USER, 0.0, EMITTING, above=0.05),
        ScalePattern(Segment.USER, 0.0, EMITTING, above=1.5),
    ),
    "shrink": lambda model: (ShrinkPattern(0.7), ShrinkPattern(0.0)),
    "redistribute": lambda model: (
        RedistributePattern(0, Segment.USER, 0.9),
        RedistributePattern(0, Segment.USER, 0.0),
    ),
}
"""A strong and a neutral setting of every kind, for `test_every_kind`; a neutral one often takes tokens that no prompt has."""


def place(site, value, *layouts, cached=0, part="decoder"):
    """Return where a value is seen: in the first layer of a pass over some conversations."""
    roles = Conversations(layouts or (LAYOUT,))
    roles.advance(value.shape[0], cached, len(max(roles.layouts, key=len)) - cached, torch.device("cpu"))
    return Pass(PassState(roles)).here(part, site, 0, value)


def act(change, value, *layouts, **settings):
    """Return what a change makes of a value."""
    return change(value, place(change.site, value, *layouts, **settings))


def scores(*shape):
    return torch.randn(1, 2, *(shape or (4, 4)))


# ---------------------------------------------------------------------------------------------------------------- scores


def test_masking_takes_the_chosen_scores_far_below_the_others():
    value = scores()
    got = act(MaskAttention(USER, queries=RESPONSE), value)
    expected = value.clone()
    expected[:, :, 3, 1:3] = -1e30
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_masked_keys_get_nothing_and_the_others_share_it():
    value = scores()
    got = (act(MaskAttention([0, 2]), value) + CAUSAL).softmax(-1)
    assert (got[:, :, 1:, [0, 2]] == 0).all()  # row 0 sees nothing else
    expected = (value + CAUSAL)[:, :, 3, [1, 3]].softmax(-1)
    torch.testing.assert_close(got[:, :, 3, [1, 3]], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_whose_every_key_is_masked_attends_evenly_and_never_ahead(dtype):
    value = scores().to(dtype)
    lowest = torch.zeros(4, 4, dtype=dtype).masked_fill(CAUSAL < 0, torch.finfo(dtype).min)
    got = (act(MaskAttention([0, 1, 2, 3], queries=[1, 2]), value) + lowest).float().softmax(-1)
    assert got.isfinite().all()
    torch.testing.assert_close(got[0, 0, 1], torch.tensor([0.5, 0.5, 0, 0]))
    torch.testing.assert_close(got[0, 1, 2], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


def test_signed_scaling_multiplies_and_so_lowers_negative_scores():
    value = torch.tensor([2.0, -2.0, 2.0, -2.0]).expand(1, 1, 4, 4)
    got = act(ScaleScores(USER, 1.5, queries=LAST), value)
    assert got[0, 0, 3].tolist() == [2, -3, 3, -2]
    assert got[0, 0, :3].tolist() == value[0, 0, :3].tolist()


def test_absolute_scaling_adds_and_so_raises_negative_scores():
    value = torch.tensor([2.0, -2.0, 2.0, -2.0]).expand(1, 1, 4, 4)
    got = act(ScaleScores(USER, 1.5, queries=LAST, mode="abs"), value)
    assert got[0, 0, 3].tolist() == [2, -1, 3, -2]


@given(st.floats(-20, 20), st.floats(1.01, 5))
def test_absolute_scaling_above_one_always_raises(score, by):
    value = torch.full((1, 1, 4, 4), score)
    got = act(ScaleScores([0], by, mode="abs"), value)
    assert (got[..., 0] >= value[..., 0]).all()
    assert (got[..., 1:] == value[..., 1:]).all()


# --------------------------------------------------------------------------------------------------------------- pattern


def test_scaling_the_pattern_leaves_the_row_sums_as_they_become():
    value = torch.full((1, 1, 4, 4), 0.25)
    got = act(ScalePattern(USER, 2.0, queries=LAST), value)
    assert got[0, 0, 3].tolist() == [0.25, 0.5, 0.5, 0.25]
    assert got[0, 0, :3].tolist() == value[0, 0, :3].tolist()


def test_rows_that_were_touched_can_be_renormalised():
    value = torch.full((1, 1, 4, 4), 0.2)
    got = act(ScalePattern(USER, 3.0, queries=[-1, 1], renormalize="row"), value)
    torch.testing.assert_close(got[0, 0, 3], torch.tensor([1, 3, 3, 1]) / 8)
    torch.testing.assert_close(got[0, 0, 1].sum(), torch.tensor(1.0))
    assert (got[0, 0, [0, 2]] == value[0, 0, [0, 2]]).all()


def test_a_row_with_nothing_left_stays_zero():
    value = torch.full((1, 1, 4, 4), 0.25, dtype=torch.bfloat16)
    got = act(ScalePattern([0, 1, 2, 3], 0.0, renormalize="row"), value)
    assert (got == 0).all()
    assert got.dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------------------------ every kind

NEUTRAL = [
    MaskAttention(IMAGE),
    MaskAttention(USER, queries=[]),
    ScaleScores(USER, 1.0),
    ScaleScores(USER, 1.0, mode="abs"),
    ScalePattern(USER, 1.0),
    ScalePattern(USER, 1.0, renormalize="none", layers=(0,)),
]
STRONG = [
    MaskAttention(USER),
    ScaleScores(USER, 0.5),
    ScaleScores(USER, 2.0, mode="abs"),
    ScalePattern(USER, 0.0, renormalize="row"),
]


@pytest.mark.parametrize("change", NEUTRAL, ids=str)
def test_a_neutral_setting_changes_nothing(change):
    value = scores().softmax(-1)
    torch.testing.assert_close(act(change, value), value, rtol=0, atol=0)


@pytest.mark.parametrize("change", STRONG, ids=str)
def test_a_strong_setting_changes_something_but_not_what_came_in(change):
    value = scores().softmax(-1)
    before = value.clone()
    assert not torch.equal(act(change, value), before)
    torch.testing.assert_close(value, before, rtol=0, atol=0)


@pytest.mark.parametrize("change", NEUTRAL + STRONG, ids=str)
def test_an_intervention_survives_being_written_down(change):
    assert from_dict(change.to_dict()) == change


@pytest.mark.parametrize("change", STRONG, ids=str)
def test_one_cached_row_is_treated_like_the_last_row_of_all(change):
    value = scores()
    whole, last = act(change, value), act(change, value[:, :, -1:], cached=3)
    torch.testing.assert_close(last, whole[:, :, -1:], rtol=0, atol=0)


@pytest.mark.parametrize("change", [MaskAttention(USER), ScaleScores(USER, 0.5), ScalePattern(USER, 0.0)], ids=str)
def test_beside_a_longer_conversation_a_shorter_one_is_changed_as_it_is_alone(change):
    short = Layout(torch.tensor([1, 3]))
    value = torch.randn(2, 2, 4, 4)
    got = act(change, value, LAYOUT, short)
    torch.testing.assert_close(got[1, :, :, :2], value[1, :, :, :2], rtol=0, atol=0)
    torch.testing.assert_close(got[1:, :, 2:, 2:], act(change, value[1:, :, 2:, 2:], short), rtol=0, atol=0)


# ---------------------------------------------------------------------------------------------------------------- errors


def test_settings_are_settled():
    assert MaskAttention(USER, layers=[2, 3]).layers == (2, 3)
    assert MaskAttention(USER, layers=range(2)).layers == (0, 1)
    assert MaskAttention([1, 2]).keys.mask(LAYOUT).tolist() == [False, True, True, False]
    assert MaskAttention(USER) == MaskAttention(USER)
    assert {"MaskAttention", "ScaleScores", "ScalePattern", "ZeroValues", "Apply"} <= set(kinds())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleScores(USER, 2.0, mode="loud"), "mode is 'signed' or 'abs', got 'loud'"),
        (lambda: ScalePattern(USER, -0.5), "a probability cannot be scaled by -0.5; give a factor of 0 or more"),
        (lambda: ScalePattern(USER, 1.0, renormalize="all"), "renormalize is 'none', .*got 'all'"),
        (lambda: MaskAttention(USER, layers=(-1,)), r"layers are counted from 0, got \(-1,\)"),
        (lambda: from_dict({"kind": "Explode"}), "unknown intervention 'Explode'; known: .*Apply, "),
        (
            lambda: from_dict({"kind": "MaskAttention", "key": 1}),
            r"MaskAttention has no setting key \(did you mean keys\?\); it has .*keys, layers, queries",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ATTENTION, HEADS, STREAM = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 2, 3), torch.zeros(1, 4, 6)


def test_here_answers_by_role_in_the_shape_of_the_site():
    assert place("attn_scores", ATTENTION).keys(USER).shape == (1, 1, 1, 4)
    assert place("pattern", ATTENTION).queries(USER).shape == (1, 1, 4, 1)
    assert place("pattern", ATTENTION).queries(EMITTING).flatten().tolist() == [False, False, True, True]
    assert place("v", HEADS).keys(USER).flatten().tolist() == [False, True, True, False]
    assert place("z", HEADS).queries(USER).shape == (1, 4, 1, 1)
    assert place("resid_pre", STREAM).emitting.flatten().tolist() == [False, False, True, True]


def test_here_refuses_what_a_site_does_not_have():
    with pytest.raises(ValueError, match="resid_pre has no key axis"):
        place("resid_pre", STREAM).keys(USER)
    with pytest.raises(ValueError, match="v has no query axis"):
        place("v", HEADS).queries(USER)
    with pytest.raises(ValueError, match="the vision has no conversation: tokens cannot be selected by role there"):
        place("pattern", ATTENTION, part="vision").keys(USER)


# -------------------------------------------------------------------------------------------------------------- distance


@pytest.mark.parametrize("cached", [0, 3])
def test_near_keeps_to_the_keys_just_before_the_row(cached):
    whole = act(ScalePattern([0, 1, 2, 3], 3.0, near=2), torch.full((1, 1, 4, 4), 0.25))
    expected = [[1, 1, 1, 1], [3, 1, 1, 1], [3, 3, 1, 1], [1, 3, 3, 1]]
    torch.testing.assert_close(whole[0, 0] * 4, torch.tensor(expected, dtype=torch.float32))
    if cached:
        last = act(ScaleScores([0, 1, 2, 3], 3.0, near=2), torch.ones(1, 1, 1, 4), cached=cached)
        assert last.flatten().tolist() == expected[-1]


@pytest.mark.usefixtures("unchecked")
def test_near_is_at_least_one_token():
    with pytest.raises(ValueError, match="near is a distance of at least 1 token, or None for any distance, got 0"):
        ScaleScores(USER, 2.0, near=0)
