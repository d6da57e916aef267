import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis import View, on_capture
from interp.analysis.budget import SEGMENTS, Budget, SegmentShares, segment_shares
from interp.data import EMITTING, Grid, Layout, Segment
from interp.passes import capture, measure

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


def test_rows_that_were_not_captured_are_asked_for(model_of):
    model = model_of("llama")
    prompt = model.prepare(text="What is this?").with_response("It")
    kept = capture(model, prompt, queries=[0, 1])
    with pytest.raises(
        ValueError,
        match=r"query rows \[\d+, .*\] are needed \(emitting\(\)\) but were not captured; capture\(..., queries=...\)",
    ):
        on_capture(Budget(), kept)
    with pytest.raises(ValueError, match=r"the query rows IMAGE take no token of this conversation"):
        on_capture(Budget(queries=Segment.IMAGE), kept)
