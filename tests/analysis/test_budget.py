import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.base import View, on_capture
from interp.analysis.budget import (
    SEGMENTS,
    Budget,
    SegmentShares,
    ShareChange,
    SinkBudget,
    SinkShares,
    segment_shares,
    share_change,
    shares_of,
)
from interp.data.layout import Grid, Layout
from interp.data.tokens import EMITTING, EVERY, Segment
from interp.interventions.attention import ScalePattern, ScaleScores
from interp.passes.capture import capture
from interp.passes.measure import measure

LAYOUT = Layout(torch.tensor([1, 2, 2, 3, 4]), (Grid(0, 1, 2, None),))


def test_shares_on_a_hand_made_pattern():
    pattern = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0], [0.5, 0.1, 0.1, 0.1, 0.2]]])
    torch.testing.assert_close(segment_shares(pattern, LAYOUT), torch.tensor([[0.3, 0.35, 0.25, 0.1]]))


def test_a_segment_without_tokens_gets_nothing():
    text = Layout(torch.tensor([3, 3, 3]))
    assert segment_shares(torch.full((2, 3, 3), 1 / 3), text)[:, [0, 1, 3]].eq(0).all()


@given(st.integers(0, 1000))
def test_shares_sum_to_the_row_sum(seed):
    pattern = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    torch.testing.assert_close(segment_shares(pattern, LAYOUT).sum(-1), torch.ones(3))
    torch.testing.assert_close(segment_shares(pattern * 0.5, LAYOUT).sum(-1), torch.full((3,), 0.5))


def test_the_mean_is_over_the_rows_that_emit():
    assert Budget().rows == EMITTING
    view = View(LAYOUT, tuple("abcde"), tuple(range(5)), (3, 4))
    pattern = torch.zeros(1, 2, 5)
    pattern[0, 0, 1] = pattern[0, 1, 0] = 1
    result = Budget().finish({0: Budget().reduce({"pattern": pattern}, view)}, view)
    assert result.share.tolist() == [[[0.5, 0.5, 0.0, 0.0]]]
    assert result.frame()["segment"].tolist() == [s.name for s in SEGMENTS]


def test_measuring_is_reducing_a_capture(model_of, picture, tmp_path):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?").with_response("A chair.")
    result = measure(model, prompt, Budget())
    kept = capture(model, prompt, want={"pattern"})
    torch.testing.assert_close(result.share, on_capture(Budget(), kept).share, rtol=0, atol=1e-6)
    rows = kept.pattern[:, :, prompt.layout.mask(EMITTING)]
    image = rows[..., prompt.layout.mask(Segment.IMAGE)].sum(-1).mean(-1)
    torch.testing.assert_close(result.share[..., 1], image)
    again = SegmentShares.load(result.save(tmp_path / "x"))
    torch.testing.assert_close(again.share, result.share, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------- sinks apart, changes


def test_sinks_are_taken_out_of_their_segments():
    pattern = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0], [0.5, 0.1, 0.1, 0.1, 0.2]]])
    view = View(LAYOUT.marked(sink=(0, 2)), tuple("abcde"), tuple(range(5)), (3, 4))
    result = SinkBudget().finish({1: SinkBudget().reduce({"pattern": pattern}, view)}, view)
    torch.testing.assert_close(result.share, torch.tensor([[[0.15, 0.35, 0.5]]]))
    assert result.sinks == (0, 2)
    assert result.frame()["segment"].tolist() == ["IMAGE", "TEXT", "SINK"]
    named = SinkBudget(sinks=[4], queries=[3]).reduce({"pattern": pattern[:, :1]}, view)
    torch.testing.assert_close(named, torch.tensor([[0.5, 0.5, 0.0]]))
    none = SinkBudget(sinks=[]).reduce({"pattern": pattern}, view)
    torch.testing.assert_close(none, torch.tensor([[0.35, 0.65, 0.0]]))


@given(st.integers(0, 1000), st.sets(st.integers(0, 4)))
def test_separated_shares_sum_to_one_whatever_the_sinks(seed, sinks):
    pattern = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    view = View(LAYOUT, tuple("abcde"), tuple(range(5)), tuple(range(5)))
    share = SinkBudget(sinks, EVERY).reduce({"pattern": pattern}, view)
    torch.testing.assert_close(share.sum(-1), torch.ones(3))
    torch.testing.assert_close(share[:, 2], shares_of(pattern, LAYOUT, [sinks])[:, 0])


def test_unmarked_sinks_are_refused_with_the_way_to_mark_them():
    view = View(LAYOUT, tuple("abcde"), tuple(range(5)), (3, 4))
    with pytest.raises(IndexError, match=r"prompt.marked\(sink=positions\)"):
        SinkBudget().reduce({"pattern": torch.rand(1, 2, 5)}, view)


@pytest.mark.parametrize("budget", [Budget(), SinkBudget([0]), Budget(Segment.USER)])
def test_changes_sum_to_zero_exactly_where_rows_sum_to_one(model_of, picture, budget):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a cat")
    before = measure(model, prompt, budget)
    kept = [
        ScaleScores(Segment.IMAGE, 3.0),
        ScalePattern(Segment.IMAGE, 3.0, renormalize="row"),
    ]
    for change in kept:
        found = share_change(before, measure(model, prompt, budget, interventions=[change]))
        torch.testing.assert_close(found.total, torch.zeros_like(found.total), rtol=0, atol=1e-6)
        assert float(found.change.abs().max()) > 1e-3
    made = share_change(
        before, measure(model, prompt, budget, interventions=[ScalePattern(Segment.IMAGE, 3.0, layers=(0,))])
    )
    image = list(made.labels["segment"]).index("IMAGE")
    torch.testing.assert_close(made.total[0], 2 * before.share[0, :, image], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.total[1], torch.zeros(model.heads), rtol=0, atol=1e-6)


def test_changes_by_hand_and_on_disk(tmp_path):
    before, after = (SegmentShares(torch.tensor([[s]]), (3,)) for s in ([0.1, 0.4, 0.5, 0.0], [0.2, 0.1, 0.6, 0.1]))
    found = share_change(before, after)
    torch.testing.assert_close(found.change, torch.tensor([[[0.1, -0.3, 0.1, 0.1]]]))
    again = ShareChange.load(found.save(tmp_path / "change.safetensors"))
    assert again.frame()["segment"].tolist() == [s.name for s in SEGMENTS]
    assert again.frame("total")["layer"].tolist() == [3]


def test_measurements_of_different_kinds_are_not_compared():
    one = SegmentShares(torch.rand(1, 2, 4), (0,))
    with pytest.raises(
        ValueError, match=r"same kind .* got SegmentShares of layers \[0\].* and SegmentShares of layers \[1\]"
    ):
        share_change(one, SegmentShares(torch.rand(1, 2, 4), (1,)))
    sinks = SinkShares(torch.rand(1, 2, 3), (0,), (0,))
    with pytest.raises(
        ValueError, match=r"SinkShares of layers \[0\], sinks \(0,\) and SinkShares of layers \[0\], sinks \(1,\)"
    ):
        share_change(sinks, SinkShares(torch.rand(1, 2, 3), (0,), (1,)))
    with pytest.raises(ValueError, match="same kind"):
        share_change(one, sinks)
