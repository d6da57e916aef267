"""The eigenspectrum of W_QK: against dense matrices, by hand, and on models."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.spectrum import (
    REGIMES,
    HeadSpectra,
    Spectrum,
    covariance_rows,
    head_spectrum,
    products,
    regime,
    spectrum,
)
from interp.data.heads import HeadWeights
from interp.data.layout import Layout
from interp.data.tokens import Segment


def random_weights(heads=3, head_dim=4, dim=12, seed=0, **others) -> HeadWeights:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(heads, head_dim, dim, generator=generator) for _ in range(3))
    bias = torch.zeros(heads, head_dim)
    return HeadWeights(q, k, v, v.mT.contiguous(), bias, bias, bias, head_dim**-0.5, **others)


def dense(weights: HeadWeights, head: int, sigma=None):
    """Return W_QK, its symmetric part and W, as the matrices they are."""
    w = (weights.W_K[head].T @ weights.W_Q[head]).double()
    sigma = torch.eye(w.shape[0], dtype=torch.float64) if sigma is None else sigma
    return w, (w + w.T) / 2, w @ sigma, sigma


@pytest.mark.parametrize("of", ["identity", "states", "increments"])
def test_every_number_is_that_of_the_dense_matrix(of) -> None:
    weights = random_weights()
    rows = covariance_rows(torch.randn(40, 12).cumsum(0), of)
    found = head_spectrum(weights, rows)
    sigma = None if rows is None else (rows.T @ rows).double()
    for head in range(3):
        w_qk, symmetric, w, sigma_ = dense(weights, head, sigma)
        eigenvalues = torch.linalg.eigvals(w)
        largest = eigenvalues[eigenvalues.abs().argsort(descending=True)[:4]]
        mine = found.eigenvalues[head].to(torch.complex128)
        for value in largest:  # as sets: conjugate pairs come in either order
            assert float((mine - value).abs().min()) < 1e-4 * float(largest.abs().max())
        real = torch.linalg.eigvals(symmetric @ sigma_).real
        kept = real[real.abs().argsort(descending=True)[:8]].sort().values
        torch.testing.assert_close(found.symmetric_eigenvalues[head].double(), kept, rtol=1e-4, atol=1e-4)
        traces = {
            "trace": w.trace(),
            "trace_squared": (w @ w).trace(),
            "trace_symmetric": (symmetric @ sigma_ @ symmetric @ sigma_).trace(),
            "trace_crossed": (w_qk @ sigma_ @ w_qk.T @ sigma_).trace(),
            "norm": torch.linalg.matrix_norm(w_qk, 2),
            "mean": largest.mean().real,
            "variance": largest.square().mean().real - largest.mean().real ** 2,
            "bound": w.trace().abs() / (12 * torch.linalg.matrix_norm(sigma_, 2)),
        }
        for name, expected in traces.items():
            torch.testing.assert_close(getattr(found, name)[head].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_head_that_compares_a_single_dimension_has_the_spectrum_one_writes_down() -> None:
    q, k = torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)
    q[0, 0, 0], k[0, 0, 0] = 3.0, 2.0  # scores 6 x_0 x_0
    q[0, 1, 1], k[0, 1, 2] = 4.0, 1.0  # and 4 between two dimensions: no trace, symmetric eigenvalues ±2
    zero = torch.zeros(1, 2)
    found = head_spectrum(HeadWeights(q, k, q, q.mT, zero, zero, zero, 0.5))
    torch.testing.assert_close(found.eigenvalues[0].real.sort().values, torch.tensor([0.0, 6.0]))
    torch.testing.assert_close(found.symmetric_eigenvalues[0], torch.tensor([-2.0, 0.0, 2.0, 6.0]))
    assert (float(found.trace), float(found.trace_squared)) == pytest.approx((6.0, 36.0))
    assert float(found.trace_symmetric) == pytest.approx(36 + 8)
    assert float(found.xi) == pytest.approx(6 / 44**0.5)
    assert float(found.eta) == pytest.approx(0.5 * 44**0.5)
    assert (float(found.mean), float(found.variance)) == pytest.approx((3.0, 9.0))
    assert (float(found.norm), float(found.bound)) == pytest.approx((6.0, 6 / 5))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), head_dim=st.integers(1, 6), dim=st.integers(2, 9), tokens=st.integers(3, 20))
def test_bounds_hold_for_any_head(seed, head_dim, dim, tokens) -> None:
    weights = random_weights(2, head_dim, dim, seed)
    stream = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed))
    for rows in (None, covariance_rows(stream, "states")):
        found = head_spectrum(weights, rows)
        assert bool((found.xi.abs() <= (2 * head_dim) ** 0.5 + 1e-3).all())
        assert bool((found.bound <= found.norm * (1 + 1e-4)).all())
        one_norm = torch.stack([torch.linalg.matrix_norm(dense(weights, h)[0], 1) for h in range(2)]).float()
        assert bool((found.bound <= one_norm * (1 + 1e-4)).all())
        torch.testing.assert_close(found.xi * found.eta, weights.scale * found.trace, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.symmetric_eigenvalues.sum(-1), found.trace, rtol=1e-3, atol=1e-3)


def test_no_matrix_as_wide_as_the_stream_is_formed() -> None:
    wide = random_weights(2, 4, 20_000)  # dim × dim in float64 would be 3.2 GB a head
    rows = covariance_rows(torch.randn(6, 20_000), "states")
    assert products(wide, rows).qk.shape == (2, 4, 4)
    assert bool(head_spectrum(wide, rows).trace.isfinite().all())


def test_covariance_rows_are_those_of_the_population_covariance() -> None:
    stream = torch.randn(30, 5)
    rows = covariance_rows(stream, "states")
    torch.testing.assert_close(rows.T @ rows, torch.cov(stream.T, correction=0), rtol=1e-4, atol=1e-5)
    rows = covariance_rows(stream, "increments")
    torch.testing.assert_close(
        rows.T @ rows, torch.cov((stream[1:] - stream[:-1]).T, correction=0), rtol=1e-4, atol=1e-5
    )
    assert covariance_rows(stream, "identity") is None


@pytest.mark.usefixtures("unchecked")
def test_covariances_that_cannot_be_are_refused() -> None:
    stream = torch.randn(30, 5)
    with pytest.raises(ValueError, match="'identity', 'states' or 'increments', got 'steps'"):
        covariance_rows(stream, "steps")
    with pytest.raises(ValueError, match="increments needs at least two of them, but the conversation has 2 tokens"):
        covariance_rows(stream[:2], "increments")
    with pytest.raises(ValueError, match="got 'all'"):
        Spectrum("all")


def test_regimes_are_told_apart() -> None:
    xi, eta = torch.tensor([0.1, 3.0, 3.0, 0.5, -3.0]), torch.tensor([1.0, 0.5, 20.0, 4.0, 0.5])
    assert [REGIMES[i] for i in regime(xi, eta)] == ["uniform", "localised", "vanishing", "uniform", "localised"]
    assert [REGIMES[i] for i in regime(xi, eta, vanishing=0.8)][:2] == ["vanishing", "localised"]
    assert REGIMES[int(regime(xi, eta, localised=2.0)[1])] == "uniform"


# ------------------------------------------------------------------------------------------------------------ on models


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "mistral", "qwen2", "qwen2_vl", "llava"])
def test_scores_of_a_model_are_those_of_its_weights(model_of, kind) -> None:
    """Every score is s (R(i - j) W_Q x̂_i + b) · (W_K x̂_j + b), with the norm, its gain, shared keys and rotation read right."""
    model = model_of(kind)
    prompt = model.prepare(text="a few words to look at")
    kept = interp.capture(model, prompt, want={"attn_scores", "resid_pre"})
    norm_bias = getattr(model.blocks[0].get_submodule(model.family.attn_norm), "bias", None)
    if norm_bias is not None:
        assert float(norm_bias.abs().max()) == 0  # left out of the weights
    for layer in range(model.layers):
        weights = model.weights(layer)
        x = weights.normalised(kept.resid_pre[layer])
        for i, j in ((3, 3), (3, 2), (4, 0), (2, 1)):
            turned = weights if weights.rotary is None else weights.at_offset(i - j)
            query, key = turned.W_Q @ x[i] + turned.b_Q, turned.W_K @ x[j] + turned.b_K
            torch.testing.assert_close(
                weights.scale * (query * key).sum(-1), kept.attn_scores[layer, :, i, j], rtol=1e-3, atol=1e-5
            )


def test_query_head_h_uses_key_head_h_over_group(model_of) -> None:
    model = model_of("qwen2")
    assert model.kv_heads < model.heads
    k = model.weights(0).W_K
    group = model.heads // model.kv_heads
    for h in range(model.heads):
        torch.testing.assert_close(k[h], k[h // group * group])
    assert not torch.allclose(k[0], k[group])


def test_weights_alone_need_no_pass_and_agree_with_the_identity(model_of) -> None:
    model = model_of("llava")
    alone = spectrum(model.weights, range(model.layers))
    measured = interp.measure(model, model.prepare(text="hello there you"), Spectrum("identity"))
    torch.testing.assert_close(alone.xi, measured.xi)
    torch.testing.assert_close(alone.eigenvalues, measured.eigenvalues)
    assert spectrum(model.weights, [1]).layers == (1,)
    with pytest.raises(ValueError, match="at least one layer"):
        spectrum(model.weights, [])


def test_a_measurement_and_a_saved_capture_give_the_same_numbers(model_of, picture, tmp_path) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?")
    for settings_ in (Spectrum(), Spectrum("increments", offset=2)):
        measured = interp.measure(model, prompt, settings_)
        path = interp.capture(model, prompt, want={"resid_pre"}).save(tmp_path / "capture.safetensors")
        captured = on_capture(settings_, interp.Capture.load(path), view=model.view(prompt))
        for name in HeadSpectra.axes():
            assert torch.equal(getattr(measured, name), getattr(captured, name)), name
    turned = model.weights(1).at_offset(2)
    rows = covariance_rows(turned.normalised(interp.Capture.load(path).resid_pre[1]), "increments")
    torch.testing.assert_close(measured.trace[1], head_spectrum(turned, rows).trace)
    assert not torch.allclose(measured.trace[1], head_spectrum(model.weights(1), rows).trace)
    again = HeadSpectra.load(measured.save(tmp_path / "result.safetensors"))
    assert torch.equal(again.eigenvalues, measured.eigenvalues)
    assert (again.offset, again.covariance, again.layers) == (2, "increments", (0, 1))
    assert list(measured.frame("trace")["layer"].unique()) == [0, 1]


def test_a_capture_without_weights_is_refused() -> None:
    view = View(Layout(torch.full((4,), Segment.USER.value)), tuple("abcd"), (0, 1, 2, 3), layer=0)
    with pytest.raises(
        ValueError, match=r"Spectrum needs the model's weights.*on_capture\(\.\.\., view=model.view\(prompt\)\)"
    ):
        Spectrum().reduce({"resid_pre": torch.randn(4, 12)}, view)


def test_packed_weights_are_refused_with_a_remedy() -> None:
    module, processor = interp.families.base.family("llama").tiny()
    model = interp.load(module, processor=processor)
    packed = model.blocks[1].self_attn.q_proj
    packed.weight = torch.nn.Parameter(packed.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"packed weights of type torch\.int8: load the model without quantization"):
        spectrum(model.weights, range(model.layers))


# ---------------------------------------------------------------------------------------------------------- the offset


def test_turning_keeps_lengths_and_adds_up() -> None:
    weights = random_weights(rotary=torch.tensor([1.0]))  # one pair turned, two dimensions left alone
    turned = weights.at_offset(3)
    torch.testing.assert_close(turned.W_Q.norm(dim=1), weights.W_Q.norm(dim=1))
    torch.testing.assert_close(turned.W_Q[:, 2:], weights.W_Q[:, 2:])
    torch.testing.assert_close(turned.at_offset(2).W_Q, weights.at_offset(5).W_Q, rtol=1e-4, atol=1e-5)
    assert weights.at_offset(0) is weights
    quarter = replace(weights, rotary=torch.tensor([torch.pi / 2])).at_offset(1)
    torch.testing.assert_close(quarter.W_Q[:, 0], -weights.W_Q[:, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"no rotary frequencies, so offset=2 is undefined.*use offset=0"):
        random_weights().at_offset(2)


def test_an_offset_changes_the_spectrum_of_a_rotary_model_only(model_of) -> None:
    llama, gpt2 = model_of("llama"), model_of("gpt2")
    near, far = (spectrum(llama.weights, range(2), offset=o) for o in (0, 7))
    assert not torch.allclose(near.trace, far.trace)
    with pytest.raises(ValueError, match="use offset=0"):
        spectrum(gpt2.weights, range(2), offset=7)


def test_a_norm_is_applied_as_the_model_applies_it() -> None:
    stream = torch.randn(5, 12) + 3
    centred = random_weights(centred=True, epsilon=1e-5)
    torch.testing.assert_close(centred.normalised(stream), torch.nn.functional.layer_norm(stream, (12,), eps=1e-5))
    plain = random_weights(epsilon=1e-6)
    torch.testing.assert_close(plain.normalised(stream), torch.nn.functional.rms_norm(stream, (12,), eps=1e-6))
