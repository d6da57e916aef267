"""Token propagation probability: the closed forms against Monte Carlo of the random walk, the curves of a model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.base import on_capture
from interp.analysis.propagation import (
    Propagation,
    PropagationCurves,
    propagation,
    propagation_probability,
    random_walk_propagation,
)
from interp.analysis.spectrum import covariance_rows, head_spectrum
from interp.data.heads import HeadWeights

WIDTH = 48


def symmetric_weights(*spectra: torch.Tensor) -> HeadWeights:
    """Return heads whose W_QK is symmetric with the given eigenvalues, in a random basis."""
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH)).Q
    q = torch.stack([values.abs().sqrt()[:, None] * basis for values in spectra])
    k = torch.stack([(values.sign() * values.abs().sqrt())[:, None] * basis for values in spectra])
    zero = torch.zeros(len(spectra), WIDTH)
    return HeadWeights(q, k, q, q.mT, zero, zero, zero, WIDTH**-0.5)


def closed(weights: HeadWeights, theta: torch.Tensor, variance: str, rows=None) -> torch.Tensor:
    s = head_spectrum(weights, rows)
    return propagation_probability(
        theta, s.trace, s.trace_symmetric, s.trace_crossed, scale=weights.scale, variance=variance
    )


def test_corrected_probability_is_that_of_the_random_walk_and_the_published_one_is_not() -> None:
    """With |tr W| large the projection is close to normal: what is left is the variance, and -2θ is missing in the published one."""
    weights = symmetric_weights(torch.full((WIDTH,), 0.5), torch.full((WIDTH,), -0.4), 0.3 + 0.1 * torch.randn(WIDTH))
    theta = torch.arange(1, 97) / 96
    walked = random_walk_propagation(weights, length=96, samples=3000, generator=torch.Generator().manual_seed(1))
    error = {v: (closed(weights, theta, v) - walked).abs().mean(-1) for v in ("corrected", "exact", "as_published")}
    assert bool((error["corrected"] < 0.03).all()), error
    torch.testing.assert_close(
        closed(weights, theta, "exact"), closed(weights, theta, "corrected"), rtol=1e-3, atol=1e-4
    )
    assert bool((error["as_published"] > 3 * error["corrected"]).all()), error
    assert bool((error["as_published"] > 0.05).all()), error


def test_exact_variance_is_that_of_an_asymmetric_head_with_a_covariance() -> None:
    """The mean and the variance of the projected score, estimated by drawing walks in the whole stream, head by head."""
    q, k = torch.randn(1, 6, 10), torch.randn(1, 6, 10)
    k = k + 0.8 * q
    zero = torch.zeros(1, 6)
    weights = HeadWeights(q, k, q, q.mT, zero, zero, zero, 6**-0.5)
    rows = covariance_rows(torch.randn(25, 10) @ torch.randn(10, 10), "states") / 6
    length, samples = 64, 40_000
    walk = (torch.randn(samples, length, 25) @ rows).cumsum(1)
    scores = weights.scale * ((walk @ k[0].T) @ (walk[:, -1] @ q[0].T)[..., None])[..., 0]
    linear = (scores - scores.mean(-1, keepdim=True)) / length
    s = head_spectrum(weights, rows)
    theta = torch.arange(1, length + 1) / length
    crossed, squared = float(s.trace_crossed), float(s.trace_squared)
    variance = weights.scale**2 * ((theta**2 - theta + 1 / 3) * crossed + (theta - 0.5) ** 2 * squared)
    mean = (theta - 0.5) * weights.scale * float(s.trace)
    assert 0.3 < float(variance.min()) < float(variance.max()) < 30  # so that the probabilities below say something
    inner = slice(3, None)
    torch.testing.assert_close(linear.var(0)[inner], variance[inner], rtol=0.12, atol=0)
    torch.testing.assert_close(linear.mean(0)[inner], mean[inner], rtol=0.05, atol=0.05 * float(mean.abs().max()))
    corrected = weights.scale**2 * (2 * theta**2 - 2 * theta + 7 / 12) * float(s.trace_symmetric)
    assert float((corrected / variance - 1).abs().max()) > 0.15  # symmetrising is not exact
    torch.testing.assert_close(
        closed(weights, theta, "exact", rows)[0].double(),
        torch.special.ndtr(mean / variance.sqrt()).double() - torch.special.ndtr((mean - 1) / variance.sqrt()).double(),
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_walk_in_the_small_space_is_the_walk_in_the_stream() -> None:
    weights = symmetric_weights(torch.linspace(-0.2, 0.8, WIDTH))
    rows = covariance_rows(torch.randn(200, WIDTH), "states")
    walk = (torch.randn(4000, 32, 200) @ rows).cumsum(1)
    scores = weights.scale * ((walk @ weights.W_K[0].T) @ (walk[:, -1] @ weights.W_Q[0].T)[..., None])[..., 0]
    linear = (scores - scores.mean(-1, keepdim=True) + 1) / 32
    brute = ((linear >= 0) & (linear <= 1)).float().mean(0)
    mine = random_walk_propagation(weights, rows, length=32, samples=4000, generator=torch.Generator().manual_seed(3))[
        0
    ]
    torch.testing.assert_close(mine, brute, rtol=0, atol=0.04)


def test_known_values() -> None:
    middle = torch.tensor([0.5])
    one = torch.tensor(1.0)
    # at the middle the mean is 0 and the variance s² t2 / 12: ρ = ½ erf-wise between 0 and 1
    got = propagation_probability(middle, one * 7, one * 12, scale=1.0)
    torch.testing.assert_close(got, torch.special.ndtr(torch.tensor([1.0])) - 0.5)
    published = propagation_probability(middle, one * 7, one * 12, scale=1.0, variance="as_published")
    torch.testing.assert_close(published, torch.special.ndtr(torch.tensor([13**-0.5])) - 0.5)
    at_zero = [
        propagation_probability(torch.zeros(1), one * 2, one * 5, scale=0.5, variance=v)
        for v in ("corrected", "as_published")
    ]
    torch.testing.assert_close(*at_zero)  # both agree where θ = 0
    still = propagation_probability(torch.tensor([0.0, 0.5, 1.0]), torch.zeros(2), torch.zeros(2), scale=1.0)
    torch.testing.assert_close(still, torch.full((2, 3), 0.5))  # no scores at all: on the edge of the linear part


@settings(max_examples=50, deadline=None)
@given(
    theta=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    trace=st.floats(-1e4, 1e4),
    squared=st.floats(0, 1e6),
    crossed=st.floats(0, 1e6),
    variance=st.sampled_from(["corrected", "as_published", "exact"]),
)
def test_it_is_a_probability(theta, trace, squared, crossed, variance) -> None:
    args = (torch.tensor(x, dtype=torch.float64) for x in (trace, squared, crossed))
    rho = propagation_probability(torch.tensor(theta, dtype=torch.float64), *args, scale=0.1, variance=variance)
    assert bool(((rho >= 0) & (rho <= 1)).all())


def test_symmetric_spectra_and_their_mirror() -> None:
    """Turning the sign of W mirrors the sequence: what is probable late becomes probable early."""
    theta = torch.linspace(0, 1, 21)
    up, down = (propagation_probability(theta, torch.tensor(t), torch.tensor(4.0), scale=0.5) for t in (6.0, -6.0))
    torch.testing.assert_close(up, down.flip(0))
    assert int(up.argmax()) > 10 > int(down.argmax())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"theta": torch.tensor([1.5])}, "from 0 to 1, got 1.5 to 1.5"),
        ({"variance": "mine"}, "one of corrected, as_published, exact, got 'mine'"),
        ({"variance": "exact"}, "needs trace_crossed"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message) -> None:
    given_ = {
        "theta": torch.tensor([0.5]),
        "trace": torch.zeros(2),
        "trace_symmetric": torch.ones(2),
        "scale": 1.0,
        **wrong,
    }
    with pytest.raises(ValueError, match=message):
        propagation_probability(**given_)


@pytest.mark.usefixtures("unchecked")
def test_wrong_settings_are_refused(model_of) -> None:
    model = model_of("llama")
    with pytest.raises(ValueError, match="two tokens and one sample, got length=1"):
        random_walk_propagation(model.weights(0), length=1)
    with pytest.raises(ValueError, match="places=1"):
        Propagation(places=1)
    with pytest.raises(ValueError, match="corrected, as_published, exact, simulated; got 'none'"):
        Propagation("none")
    with pytest.raises(ValueError, match="got 'walk'"):
        Propagation(covariance="walk")
    with pytest.raises(ValueError, match="needs activations"):
        propagation(model.weights, [0], Propagation())
    with pytest.raises(ValueError, match="at least one layer"):
        propagation(model.weights, [])


@pytest.mark.parametrize("variance", ["corrected", "as_published", "exact", "simulated"])
def test_measured_captured_and_by_hand_agree(model_of, picture, tmp_path, variance) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?")
    asked = Propagation(variance, offset=1, places=8, samples=16)
    measured = interp.measure(model, prompt, asked)
    capture = interp.capture(model, prompt, want={"resid_pre"})
    assert torch.equal(on_capture(asked, capture, view=model.view(prompt)).rho, measured.rho)
    weights = model.weights(1).at_offset(1)
    rows = covariance_rows(weights.normalised(capture.resid_pre[1]), "increments")
    if variance == "simulated":
        expected = random_walk_propagation(
            weights, rows, length=8, samples=16, generator=torch.Generator().manual_seed(0)
        )
    else:
        expected = closed(weights, torch.arange(1, 9) / 8, variance, rows)
    torch.testing.assert_close(measured.rho[1], expected)
    again = PropagationCurves.load(measured.save(tmp_path / "curves.safetensors"))
    assert torch.equal(again.rho, measured.rho)
    assert again.variance == variance
    assert sorted(measured.frame()["key"].unique()) == [i / 8 for i in range(1, 9)]


def test_weights_alone(model_of) -> None:
    model = model_of("llama")
    curves = propagation(model.weights, range(2))
    torch.testing.assert_close(curves.rho[1], closed(model.weights(1), curves.theta, "corrected"))
    assert (curves.covariance, curves.layers) == ("identity", (0, 1))
