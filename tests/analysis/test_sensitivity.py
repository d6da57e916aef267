import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.sensitivity import (
    Erasure,
    FirstOrder,
    HeadAttribution,
    Sensitivity,
    agreement,
    pool_tokens,
    sensitivity,
)
from interp.data.heads import Heads
from interp.data.layout import Layout
from interp.data.tokens import Segment

T = torch.tensor


def erasure(erased, clean):
    clean = T(clean).log()
    return Erasure(T(erased).log(), clean, tuple(range(5, 5 + len(clean))), ("x",) * len(clean), "step")


def test_the_change_is_what_is_lost():
    found = erasure([[[0.25, 0.8]]], [0.5, 0.4])
    torch.testing.assert_close(found.change(), T([[[0.25, -0.4]]]))
    torch.testing.assert_close(found.change("log_probability"), T([[[2.0, 0.5]]]).log())
    assert found.frame()["token"].tolist() == [5, 6]


def test_scores_by_hand():
    bad, good = T([[[0.2, 0.4], [0.1, 0.1]]]), T([[[0.1, 0.1, 0.4], [0.1, 0.1, 0.1]]])
    found = sensitivity(bad, good)
    torch.testing.assert_close(found.score, T([[0.1, 0.0]]))
    torch.testing.assert_close(found.effect_size, T([[0.1 / (0.02 + 0.03) ** 0.5, 0.0]]))
    wanted = stats.ttest_ind(bad[0, 0].numpy(), good[0, 0].numpy(), equal_var=False).pvalue
    torch.testing.assert_close(found.p_value, T([[wanted, 1.0]], dtype=torch.float32))
    torch.testing.assert_close(found.q_value, T([[min(1.0, 2 * wanted), 1.0]], dtype=torch.float32))
    assert (found.n_hallucinated, found.n_correct) == (2, 3)
    assert float(found.low[0, 0]) <= 0.1 <= float(found.high[0, 0])
    assert found.low[0, 1] == found.high[0, 1] == 0


def test_a_planted_head_is_found_and_the_others_are_not():
    bad, good = torch.randn(4, 8, 60) * 0.1, torch.randn(4, 8, 80) * 0.1
    bad[2, 5] += 0.15
    good[1, 3] += 0.15
    found = sensitivity(bad, good)
    assert found.top(1) == Heads(((2, 5),))
    assert found.top(1, most=False) == Heads(((1, 3),))
    assert found.top(10, q_below=0.01) == Heads(((2, 5), (1, 3)))
    assert float(found.low[2, 5]) > 0 > float(found.high[1, 3])
    assert len(found.top(7, by="score")) == 7


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 99))
def test_swapping_the_groups_changes_the_sign(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    bad, good = torch.rand(2, 2, n, generator=generator), torch.rand(2, 2, m, generator=generator)
    one, other = sensitivity(bad, good, resamples=20), sensitivity(good, bad, resamples=20)
    torch.testing.assert_close(one.score, -other.score)
    torch.testing.assert_close(one.effect_size, -other.effect_size)
    torch.testing.assert_close(one.q_value, other.q_value)
    assert bool(((one.q_value >= one.p_value - 1e-6) & (one.q_value <= 1)).all())


def test_without_hallucinated_tokens_n_is_0_and_nothing_is_nan(tmp_path):
    found = sensitivity(torch.zeros(2, 3, 0), torch.rand(2, 3, 4))
    assert (found.n_hallucinated, found.n_correct) == (0, 4)
    assert not found.score.any()
    assert found.q_value.tolist() == [[1.0] * 3] * 2
    with pytest.raises(
        ValueError, match=r"no head has a false discovery rate of at most 0.05 \(n = 0 hallucinated, 4 cor"
    ):
        found.top(3, q_below=0.05)
    again = Sensitivity.load(found.save(tmp_path / "s.safetensors"))
    assert again.n_hallucinated == 0


def test_replies_are_pooled_by_their_marks():
    one, other = torch.arange(6.0).reshape(1, 2, 3), torch.arange(4.0).reshape(1, 2, 2) + 10
    bad, good = pool_tokens(
        [one, other], [T([True, False, False]), T([False, True])], [T([False, True, True]), T([False, False])]
    )
    torch.testing.assert_close(bad, T([[[0.0, 11.0], [3.0, 13.0]]]))
    torch.testing.assert_close(good, T([[[1.0, 2.0], [4.0, 5.0]]]))


def test_the_estimate_by_hand():
    segments = [Segment.USER, Segment.USER, Segment.RESPONSE, Segment.RESPONSE]
    view = View(Layout(T([s.value for s in segments])), ("a", "b", "c", "d"), (0, 1, 2, 3))
    z = torch.zeros(4, 2, 3)
    z[1, 0], z[2, 1] = T([1.0, 2, 3]), T([1.0, 0, 0])
    gradient = torch.full((4, 2, 3), -2.0)
    partial = HeadAttribution().reduce({"z": z, "z_grad": gradient}, view)
    torch.testing.assert_close(partial, T([[12.0, 0.0], [0.0, 2.0]]))
    found = HeadAttribution().finish({3: partial}, view)
    assert (found.layers, found.positions) == ((3,), (2, 3))


def test_streaming_and_a_saved_capture_agree(model_of, tmp_path):
    model = model_of("llama")
    prompt = model.prepare(text="What is it?", response="a cat")
    stream = interp.measure(model, prompt, HeadAttribution())
    kept = interp.capture(model, prompt, want={"z"}, grad={"z"}, gradient="position")
    kept.save(tmp_path / "c.safetensors")
    again = on_capture(HeadAttribution(), interp.Capture.load(tmp_path / "c.safetensors"))
    loaded = FirstOrder.load(stream.save(tmp_path / "r.safetensors"))
    for other in (again, loaded):
        torch.testing.assert_close(other.effect, stream.effect, rtol=0, atol=0)
        assert other.positions == stream.positions
    with pytest.raises(KeyError, match="z_grad was not captured"):
        on_capture(HeadAttribution(), interp.capture(model, prompt, want={"z"}))


def test_agreement_is_a_rank_correlation_over_heads():
    exact = erasure([[[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]]], [0.5, 0.5])
    estimate = FirstOrder(T([[[5.0, 1.0], [2.0, 2.0], [1.0, 3.0]]]), (0,), exact.positions)
    assert agreement(exact, estimate) == {5: pytest.approx(1.0), 6: None}
    part = Erasure(exact.erased.clone(), exact.clean, exact.positions, exact.reply, "step")
    part.erased[0, 0] = torch.nan
    assert agreement(part, estimate)[5] == pytest.approx(1.0)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="erase all heads"):
        sensitivity(torch.full((1, 1, 2), torch.nan), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="got 'odds'"):
        erasure([[[0.5]]], [0.5]).change("odds")
    found = sensitivity(torch.rand(1, 2, 3), torch.rand(1, 2, 3))
    with pytest.raises(ValueError, match=r"ranked by one of score, effect_size, .*got 'size'"):
        found.top(1, by="size")
    with pytest.raises(ValueError, match="got 0 replies"):
        pool_tokens([], [], [])
    with pytest.raises(ValueError, match="a reply of 3 tokens has masks of 2 and 3"):
        pool_tokens([torch.rand(1, 1, 3)], [T([True, False])], [T([True, False, False])])
    with pytest.raises(ValueError, match="both hallucinated and correct"):
        pool_tokens([torch.rand(1, 1, 1)], [T([True])], [T([True])])
