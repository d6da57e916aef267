"""Variance and entropy of attention rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.distribution import (
    AttentionDistribution,
    Distribution,
    rank_correlation,
    row_entropy,
    row_variance,
    tokens_seen,
)
from interp.data.layout import Layout
from interp.data.tokens import EMITTING, EVERY, Segment


def view_of(queries: tuple[int, ...], length: int) -> View:
    return View(Layout(torch.full((length,), Segment.USER.value)), ("x",) * length, (0,) * length, queries)


def test_by_hand() -> None:
    pattern = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0], [1.0, 0, 0, 0]])
    seen = tokens_seen(pattern, (0, 1, 2, 3))
    assert seen.tolist() == [1, 2, 3, 4]
    # the third row: (1/3)[(1/2 - 1/3)² + 2 (1/4 - 1/3)²] = (1/3)(1/36 + 2/144) = 1/72; the last: (1/4)(1 - 1/4)
    torch.testing.assert_close(row_variance(pattern, seen), torch.tensor([0, 0, 1 / 72, 3 / 16]), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(row_entropy(pattern), torch.tensor([0, math.log(2), 1.5 * math.log(2), 0]))


def test_rows_of_a_prefix_language_model_count_what_they_attend_to() -> None:
    pattern = torch.full((1, 4), 0.25)
    seen = tokens_seen(pattern, (1,))
    assert seen.tolist() == [4]
    torch.testing.assert_close(row_variance(pattern, seen), torch.zeros(1))


def rows(draw_length=8):
    return st.lists(st.floats(-8, 8), min_size=1, max_size=draw_length)


@settings(max_examples=60, deadline=None)
@given(scores=rows(), later=st.integers(0, 5))
def test_laws(scores, later) -> None:
    n = len(scores)
    plain = torch.tensor([scores], dtype=torch.float64).softmax(-1).float()
    pattern = torch.cat([plain, torch.zeros(1, later)], -1)
    entropy = float(row_entropy(pattern))
    assert -1e-6 <= entropy <= math.log(n) + 1e-5
    variance = float(row_variance(pattern, tokens_seen(pattern, (n - 1,))))
    assert 0 <= variance <= (1 - 1 / n) / n + 1e-6
    assert variance == pytest.approx(float(plain.var(correction=0)), rel=1e-3, abs=1e-7)  # whatever comes after the row
    assert entropy == pytest.approx(float(stats.entropy(plain[0].double().numpy())), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=10))
def test_rank_correlation_is_spearmans(pairs) -> None:
    one, other = torch.tensor(pairs, dtype=torch.float32).T
    got = float(rank_correlation(one, other))
    if len(set(one.tolist())) == 1 or len(set(other.tolist())) == 1:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(float(stats.spearmanr(one.numpy(), other.numpy()).statistic), abs=1e-6)
        assert -1 <= got <= 1


def test_analysis_by_hand() -> None:
    """Two heads, three rows: one is even, one sharpens step by step."""
    even = [[1 / 3, 1 / 3, 1 / 3, 0, 0], [0.25, 0.25, 0.25, 0.25, 0], [0.2, 0.2, 0.2, 0.2, 0.2]]
    sharp = [[0.4, 0.3, 0.3, 0, 0], [0.7, 0.1, 0.1, 0.1, 0], [1.0, 0, 0, 0, 0]]
    pattern = torch.tensor([even, sharp])
    view = view_of((2, 3, 4), 5)
    analysis = Distribution(EVERY)
    result = analysis.finish({4: analysis.reduce({"pattern": pattern}, view)}, view)
    torch.testing.assert_close(result.evenness[0, 0], torch.tensor(1.0))
    torch.testing.assert_close(result.entropy[0, 0], torch.tensor(sum(map(math.log, (3, 4, 5))) / 3))
    assert float(result.correlation[0, 1]) == pytest.approx(-1)  # the sharper, the larger the variance
    assert float(result.across[0]) == pytest.approx(-1)
    assert result.count == 3
    expected = sum(torch.tensor(r[: 3 + i]).var(correction=0) for i, r in enumerate(sharp)) / 3
    torch.testing.assert_close(result.variance[0, 1], expected)


def test_a_single_row_has_no_correlation() -> None:
    analysis = Distribution([2])
    view = view_of((2,), 3)
    result = analysis.finish({0: analysis.reduce({"pattern": torch.rand(2, 1, 3).softmax(-1)}, view)}, view)
    assert bool(result.correlation.isnan().all())
    assert result.count == 1
    first = analysis.reduce({"pattern": torch.ones(2, 1, 1)}, view_of((0,), 1))
    torch.testing.assert_close(first["evenness"], torch.ones(2))  # one token: as even as can be


def test_streaming_is_captured(model_of, picture, tmp_path) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a small cat")
    measured = interp.measure(model, prompt, Distribution())
    captured = on_capture(Distribution(), interp.capture(model, prompt, want={"pattern"}, queries=EMITTING))
    for name in AttentionDistribution.axes():
        torch.testing.assert_close(getattr(measured, name), getattr(captured, name), rtol=0, atol=0, equal_nan=True)
    again = AttentionDistribution.load(measured.save(tmp_path / "distribution.safetensors"))
    assert torch.equal(again.entropy, measured.entropy)
    assert again.count == measured.count == len(prompt.response_ids) + 1


def test_rows_before_the_reply_do_not_see_it(model_of) -> None:
    model = model_of("llama")
    prompt = model.prepare(text="a few words")
    rows_ = [1, 2]
    short = interp.measure(model, prompt, Distribution(rows_))
    long = interp.measure(model, prompt.with_response("and a long reply"), Distribution(rows_))
    torch.testing.assert_close(short.variance, long.variance)
    torch.testing.assert_close(short.entropy, long.entropy)
