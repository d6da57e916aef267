"""Which tokens actual scores put in the linear part of the softmax."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.empirical import EmpiricalPropagation, ObservedPropagation, in_linear_part
from interp.data.layout import Layout
from interp.data.tokens import EMITTING, Segment


def view_of(queries: tuple[int, ...], length: int) -> View:
    return View(Layout(torch.full((length,), Segment.USER.value)), ("x",) * length, (0,) * length, queries)


def test_by_hand() -> None:
    # T = 4, mean 0: the expansion is (ω + 1)/4, so a score is in when it lies in [-1, 3]
    torch.testing.assert_close(in_linear_part(torch.tensor([3.0, -1.0, 1.0, -3.0])), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(
        in_linear_part(torch.tensor([9.0, -3.0, -3.0, -3.0])), torch.tensor([0.0, 0.0, 0.0, 0.0])
    )
    torch.testing.assert_close(in_linear_part(torch.full((5,), 7.0)), torch.ones(5))


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.floats(-50, 50), min_size=1, max_size=12), shift=st.floats(-20, 20))
def test_laws(scores, shift) -> None:
    x = torch.tensor(scores, dtype=torch.float64)
    inside = in_linear_part(x)
    plain = torch.tensor([[float(0 <= v <= 1)] for v in ((x - x.mean() + 1) / len(x)).float()])[:, 0]
    near = ((x - x.mean() + 1).abs() < 1e-4) | ((x - x.mean() + 1 - len(x)).abs() < 1e-4)
    assert torch.equal(inside[~near], plain[~near])
    assert torch.equal(in_linear_part(x + shift)[~near], inside[~near])  # a softmax does not see a shift


def test_rows_are_judged_over_the_tokens_up_to_themselves() -> None:
    scores = torch.zeros(1, 2, 4)
    scores[0, 0] = torch.tensor([0.0, -9.0, 100.0, 100.0])  # row 1: sees tokens 0 and 1; the future is not looked at
    scores[0, 1] = torch.tensor([0.0, 0.0, 0.0, 0.0])
    analysis = EmpiricalPropagation([1, 3])
    view = view_of((1, 3), 4)
    result = analysis.finish({5: analysis.reduce({"attn_scores": scores}, view)}, view)
    # row 1: mean -4.5, so 0 is at (4.5 + 1)/2 > 1 and -9 below 0: none is in
    torch.testing.assert_close(result.activated[0, 0], torch.tensor([0.5, 0.5, 1.0, 1.0]))
    torch.testing.assert_close(result.share, torch.tensor([[0.5]]))
    torch.testing.assert_close(result.by_token, result.activated[0, 0])
    assert result.labels == {"layer": [5]}


@pytest.mark.parametrize("queries", [EMITTING, Segment.USER, -1])
def test_streaming_is_captured_is_brute_force(model_of, picture, tmp_path, queries) -> None:
    model = model_of("qwen2_vl")
    prompt = model.prepare(picture(), "What is this?", response="a cat")
    asked = EmpiricalPropagation(queries)
    measured = interp.measure(model, prompt, asked)
    capture = interp.capture(model, prompt, want={"attn_scores"}, queries=queries)
    captured = on_capture(asked, capture)
    for name in ObservedPropagation.axes():
        assert torch.equal(getattr(measured, name), getattr(captured, name))
    brute, seen = torch.zeros_like(measured.activated), torch.zeros(len(prompt))
    for r, position in enumerate(capture.queries):
        seen[: position + 1] += 1
        for layer in range(model.layers):
            for h in range(model.heads):
                own = capture.attn_scores[layer, h, r, : position + 1]
                for key in range(position + 1):
                    value = (own[key] - own.mean() + 1) / (position + 1)
                    brute[layer, h, key] += float(0 <= value <= 1)
    torch.testing.assert_close(measured.activated, brute / seen.clamp_min(1))
    again = ObservedPropagation.load(measured.save(tmp_path / "observed.safetensors"))
    assert torch.equal(again.share, measured.share)
    assert bool(((measured.share >= 0) & (measured.share <= 1)).all())
