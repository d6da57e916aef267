"""The arithmetic of saliency, by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.product import normalise_saliency, saliency, token_scores

T = torch.tensor


def test_known_answer_for_every_way_to_put_heads_together():
    pattern = T([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.25, 0.75]]])
    gradient = T([[[1.0, 9.0], [2.0, -2.0]], [[-1.0, 9.0], [4.0, 4.0]]])
    each = saliency(pattern, gradient, (0, 1), "each")
    torch.testing.assert_close(each, T([[[1.0, 0], [1, 1]], [[1, 0], [1, 3]]]))
    torch.testing.assert_close(saliency(pattern, gradient, (0, 1)), T([[[2.0, 0], [2, 4]]]))
    torch.testing.assert_close(saliency(pattern, gradient, (0, 1), "mean"), T([[[1.0, 0], [1, 2]]]))
    torch.testing.assert_close(saliency(pattern, gradient, (0, 1), "sum_then_abs"), T([[[0.0, 0], [2, 2]]]))


@given(st.integers(1, 5), st.integers(0, 3), st.sampled_from(["each", "abs_then_sum", "sum_then_abs", "mean"]))
def test_nothing_is_salient_above_the_diagonal_or_below_zero(rows, first, heads):
    queries = tuple(range(first, first + rows))
    found = saliency(torch.rand(2, rows, first + rows), torch.randn(2, rows, first + rows), queries, heads)
    assert bool((found >= 0).all())
    for row, position in enumerate(queries):
        assert not found[:, row, position + 1 :].any()


def test_norms_by_hand():
    values = T([[[3.0, 0.0], [4.0, 12.0]]])
    torch.testing.assert_close(normalise_saliency(values, "frobenius"), values / 13)
    torch.testing.assert_close(normalise_saliency(values, "row_l2"), T([[[1.0, 0], [0.1**0.5, 0.9**0.5]]]))
    torch.testing.assert_close(normalise_saliency(values, "none"), values)
    assert not normalise_saliency(torch.zeros(1, 2, 2), "row_l2").any()
    torch.testing.assert_close(normalise_saliency(values * 1e-30, "frobenius"), values / 13)


def test_scores_read_the_row_of_the_token():
    rows = T([[[[0.1, 0.2, 0.3, 0.0], [0.4, 0.5, 0.6, 0.8]]]])
    found = token_scores(rows, T([2, 3]), T([False, False, True, True]))
    torch.testing.assert_close(found["own"], T([[0.3, 0.8]]))
    torch.testing.assert_close(found["previous"], T([[0.2, 0.6]]))
    torch.testing.assert_close(found["output"], T([[0.3, 0.7]]))
    first = token_scores(rows[:, :, :1], T([0]), T([False, False, True, True]))
    assert first["previous"].tolist() == [[0]]
    assert first["output"].tolist() == [[0]]
