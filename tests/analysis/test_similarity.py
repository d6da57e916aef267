"""The cosine of attention within a reply."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.analysis.similarity import HeadSimilarity, head_similarity, pattern_cosine, response_pattern
from interp.data.layout import Layout
from interp.data.prompt import Capture


def captured(pattern: torch.Tensor, segments: list[int], queries=None, ids=None, layers=None) -> Capture:
    layout = Layout(torch.tensor(segments))
    ids = tuple(range(len(segments))) if ids is None else ids
    queries = tuple(range(len(segments))) if queries is None else queries
    layers = tuple(range(len(pattern))) if layers is None else layers
    return Capture({"pattern": pattern}, layout, tuple(map(str, ids)), ids, layers, queries)


def test_by_hand() -> None:
    one = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])
    other = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]]])
    torch.testing.assert_close(pattern_cosine(one, other), torch.tensor([1.5 / (1.5**0.5 * 2**0.5), 1.0]))
    assert float(pattern_cosine(torch.zeros(2, 2), other[0])) == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), factor=st.floats(0.01, 100))
def test_laws(seed, n, factor) -> None:
    a, b = torch.rand(2, 3, n, n, generator=torch.Generator().manual_seed(seed))
    cosine = pattern_cosine(a, b)
    assert bool(((cosine >= 0) & (cosine <= 1)).all())
    torch.testing.assert_close(cosine, pattern_cosine(b, a))
    torch.testing.assert_close(cosine, pattern_cosine(a * factor, b), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pattern_cosine(a, a), torch.ones(3))
    loop = torch.nn.functional.cosine_similarity(a.double().flatten(1), b.double().flatten(1))
    torch.testing.assert_close(cosine, loop.float())


def test_only_the_reply_counts_wherever_it_stands() -> None:
    """The same attention within the reply behind prompts of different lengths: cosine 1, whatever the prompt's columns say."""
    block = torch.tensor([[0.3, 0.0], [0.2, 0.4]])
    long, short = torch.rand(1, 1, 5, 5), torch.rand(1, 1, 3, 3)
    long[0, 0, 3:, 3:] = short[0, 0, 1:, 1:] = block
    one, other = captured(long, [1, 3, 3, 4, 4], ids=(9, 9, 9, 7, 8)), captured(short, [3, 4, 4], ids=(5, 7, 8))
    torch.testing.assert_close(response_pattern(one), block[None, None])
    result = head_similarity(one, other)
    torch.testing.assert_close(result.similarity, torch.ones(1, 1))
    assert result.words == ("7", "8")
    some_rows = captured(long[:, :, 3:], [1, 3, 3, 4, 4], queries=(3, 4), ids=(9, 9, 9, 7, 8))
    torch.testing.assert_close(head_similarity(some_rows, other).similarity, torch.ones(1, 1))


def test_normalised_rows_compare_shapes() -> None:
    one, other = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    one[0, 0, 1:, 1:] = torch.tensor([[0.9, 0.0], [0.1, 0.1]])
    other[0, 0, 1:, 1:] = torch.tensor([[0.1, 0.0], [0.4, 0.4]])
    both = captured(one, [3, 4, 4]), captured(other, [3, 4, 4])
    torch.testing.assert_close(head_similarity(*both, rows="normalised").similarity, torch.ones(1, 1))
    expected = (0.09 + 0.08) / (math.sqrt(0.83) * math.sqrt(0.33))
    assert float(head_similarity(*both).similarity) == pytest.approx(expected)


def test_means_over_sets_of_heads(tmp_path) -> None:
    result = HeadSimilarity(torch.tensor([[0.1, 0.2], [0.3, 0.6]]), (4, 7), ("a", "b"), "as_they_are")
    assert result.over([(4, 1), (7, 1)]) == pytest.approx(0.4)
    assert list(result.frame()["layer"]) == [4, 4, 7, 7]
    assert HeadSimilarity.load(result.save(tmp_path / "x.safetensors")).over([(7, 0)]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="at least one"):
        result.over([])
    with pytest.raises(
        ValueError, match=r"heads \[\(0, 0\), \(4, 2\)\] were not compared; there are layers \[4, 7\] with 2 heads"
    ):
        result.over([(0, 0), (4, 2), (7, 1)])


@pytest.mark.usefixtures("unchecked")
def test_runs_that_cannot_be_compared_are_refused() -> None:
    whole = captured(torch.rand(1, 2, 3, 3), [3, 4, 4])
    for other, message in [
        (captured(torch.rand(1, 2, 3, 3), [3, 4, 4], ids=(0, 1, 5)), "different replies, 2 and 2 tokens"),
        (captured(torch.rand(2, 2, 3, 3), [3, 4, 4]), r"different layers, \[0\] and \[0, 1\]"),
        (captured(torch.rand(1, 4, 3, 3), [3, 4, 4]), "2 and 4 heads a layer"),
        (captured(torch.rand(1, 2, 2, 3), [3, 4, 4], queries=(0, 1)), r"capture\(\.\.\., queries=Segment.RESPONSE\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            head_similarity(whole, other)
    single = captured(torch.rand(1, 2, 3, 3), [3, 3, 4])
    with pytest.raises(ValueError, match="at least two tokens, this one has 1"):
        head_similarity(single, single)
    with pytest.raises(ValueError, match="got 'scaled'"):
        head_similarity(whole, whole, rows="scaled")
