from dataclasses import replace

import pytest
import torch

from interp.data.heads import Heads, HeadWeights
from interp.methods.tame import ScaleByEnergy, Tame, head_energy
from interp.taps.audit import NothingChanged


def test_it_conforms(tiny, conforms):
    conforms(tiny, Tame(gamma=30.0))


def test_the_constant_form_conforms(tiny, conforms):
    conforms(tiny, Tame("constant"), Tame("constant", expansion=1.0))


@pytest.mark.parametrize("variant", ["paper", "release", "constant"])
def test_bfloat16_does_not_turn_it_off(model_of, answered, under, variant):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Tame(variant)), under(model, prompt))


def random_weights(heads=3, head_dim=4, dim=7, size=1.0):
    q, k = (torch.randn(heads, head_dim, dim) * size for _ in range(2))
    zeros = torch.zeros(heads, head_dim)
    return HeadWeights(q, k, k, k.mT, zeros, zeros, zeros, 0.5)


def test_the_energy_is_that_of_the_symmetric_part():
    weights = random_weights()
    whole = torch.einsum("hdi,hdj->hij", weights.W_K, weights.W_Q)
    symmetric = (whole + whole.mT) / 2
    torch.testing.assert_close(
        head_energy(weights), (symmetric @ symmetric).diagonal(dim1=1, dim2=2).sum(-1), rtol=1e-4, atol=1e-5
    )


def test_scaled_weights_have_the_energy_that_the_paper_wants():
    weights = random_weights()
    eta = head_energy(weights)
    factors, apart = Tame(gamma=2.0).factors(eta[None])
    assert apart == Heads(())
    scaled = HeadWeights(
        weights.W_Q * factors[0][:, None, None],
        *(getattr(weights, n) for n in ("W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "scale")),
    )
    torch.testing.assert_close(head_energy(scaled), 4 * (eta + 1e-6).log().square(), rtol=1e-4, atol=1e-5)


def test_by_default_the_mean_factor_is_one_and_weak_heads_are_left_alone():
    eta = torch.tensor([[0.5, 10.0, 100.0], [1e4, 0.9, 50.0]])
    factors, apart = Tame().factors(eta)
    torch.testing.assert_close(factors.mean(), torch.tensor(1.0))
    assert apart == Heads(((0, 0), (1, 1)))
    assert factors[0, 0] == factors[1, 1] == 1
    assert (factors > 0).all()


def test_the_heads_left_alone_are_named_in_the_audit(model_of):
    model = model_of("llava")
    change = Tame().interventions(model)[0]
    expected = Tame().factors(torch.stack([head_energy(model.weights(i)) for i in range(model.layers)]))[1]
    assert change.apart == expected
    assert "apart=Heads" in str(replace(change, apart=Heads(((0, 1),))))


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_it_is_one_factor_a_head_on_the_scores(model_of, answered, under, by_hand, kind):
    model = model_of(kind)
    prompt = answered(model)
    method = Tame(gamma=5.0)

    def scores(layer, z):
        w = model.weights(layer)
        whole = torch.einsum("hdi,hdj->hij", w.W_K, w.W_Q)
        eta = (
            ((whole + whole.mT) / 2).square().sum((1, 2))
        )  # of a symmetric matrix, trace of the square = sum of squares
        factor = torch.where((eta + 1e-6).log() > 0, 5.0 * (eta + 1e-6).log() / eta.sqrt(), 1.0)
        return z * factor[:, None, None]

    torch.testing.assert_close(
        under(model, prompt, method), by_hand(model, prompt, scores=scores), rtol=1e-4, atol=1e-4
    )


def test_a_constant_expansion_is_another_scale_of_the_scores(model_of, answered, under, by_hand):
    model = model_of("qwen2")
    prompt = answered(model)
    expected = by_hand(model, prompt, scores=lambda layer, z: z * 1.2**2 / 1.1)
    method = Tame("constant", expansion=1.2, suppression=1.1)
    torch.testing.assert_close(under(model, prompt, method), expected, rtol=1e-4, atol=1e-5)


def test_the_release_multiplies_by_one_factor_a_layer(model_of, answered, under):
    model = model_of("llava")
    prompt = answered(model)
    from interp.passes.capture import capture

    sites = {"q", "k", "attn_scores"}
    plain = capture(model, prompt, want=sites, layers=[0])
    edited = capture(model, prompt, want=sites, layers=[0], interventions=[Tame("release")])
    factors = [1 + 0.8 / (plain[s][0].square().sum((0, 2)).mean() + 1e-7).log() for s in ("q", "k")]
    torch.testing.assert_close(edited.attn_scores, plain.attn_scores * factors[0] * factors[1], rtol=1e-4, atol=1e-5)
    with pytest.warns(NothingChanged, match="ScaleByEnergy"):
        neutral = under(model, prompt, Tame("release", strength=0.0))
    torch.testing.assert_close(neutral, under(model, prompt), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_release_s_sum_overflows_in_half_precision_and_ours_does_not(dtype):
    from interp.data.layout import Layout
    from interp.taps.running import Pass
    from interp.taps.state import Conversations, PassState

    keys = (torch.ones(1, 620, 4, 8) * 8).to(torch.float16)  # squared norm 512 a token
    total = keys.square().sum((1, 3)).mean()
    assert total.isinf()
    assert float(1 + 0.8 / total.log()) == 1.0  # the intervention is gone
    here = Pass(PassState(Conversations((Layout(torch.full((620,), 3)),)))).here("decoder", "k", 0, keys)
    got = ScaleByEnergy("k", 0.8)(keys.to(dtype), here)
    expected = 8 * (1 + 0.8 / torch.tensor(620 * 512.0).log())
    torch.testing.assert_close(got.float().unique(), expected[None], rtol=1e-2, atol=0)
    assert float(expected) > 8.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "other"}, "variant is one of paper, release, constant, got 'other'"),
        ({"variant": "release", "gamma": 2.0}, "variant='release' uses only strength, but gamma was set"),
        ({"variant": "paper", "expansion": 2.0}, "variant='paper' uses only gamma, xi, but expansion was set"),
        ({"gamma": 0.0}, "gamma, expansion and suppression are above 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Tame(**settings)
