import pytest
import torch

import interp
from interp.data.tokens import EMITTING
from interp.interventions.lens import CorrectLogits
from interp.methods.dola import EXCLUDED, Dola
from interp.passes.capture import capture

STRONG = Dola(depths=(0, 1))


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_it_conforms(tiny, conforms, variant):
    conforms(tiny, Dola(depths=(0, 1), variant=variant), Dola(depths=(0, 1), beta=0.0, strength=0.0, variant=variant))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, STRONG), under(model, prompt))


def kl(a, b):
    return (a * (a / b).log()).sum()


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
@pytest.mark.parametrize("variant", ["paper", "release"])
def test_it_is_the_paper_s_equations_row_by_row(model_of, answered, under, kind, variant):
    model = model_of(kind)
    prompt = answered(model)
    kept = capture(model, prompt, want={"resid_pre", "logits"})
    expected = kept.logits.clone()
    norm = model.decoder.get_submodule(model.family.final_norm)
    head = model.module.get_output_embeddings().weight
    chosen = set()
    for row in prompt.layout.positions(EMITTING):
        p = kept.logits[row].softmax(-1)
        far, premature = -1.0, None
        for depth in (0, 1):
            stream = kept.resid_pre[depth][row]
            q = ((norm(stream) if variant == "paper" else stream) @ head.T).softmax(-1)
            m = (p + q) / 2
            js = (kl(p, m) + kl(q, m)) / 2 if variant == "paper" else (kl(m, p) + kl(m, q)) / 2
            if js > far:
                far, premature, best = js, q, depth
        chosen.add(best)
        expected[row] = torch.where(p < 0.1 * p.max(), EXCLUDED, kept.logits[row] - premature.log())
    got = under(model, prompt, Dola(depths=(0, 1), variant=variant))[0]
    torch.testing.assert_close(got.log_softmax(-1), expected.log_softmax(-1), rtol=1e-5, atol=1e-5)


def test_the_chosen_layer_is_the_most_different_one_in_both_variants():
    p = torch.tensor([[[0.0, 0.0, 3.0]]]).log_softmax(-1)
    q = torch.stack([p + 0.1 * torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[[3.0, 0.0, 0.0]]])]).log_softmax(-1)
    for variant in ("paper", "release"):
        found = Dola(variant=variant).divergence(p, q)[:, 0, 0]
        assert found[0] < found[1]
        a, b = p[0, 0].exp(), q[1, 0, 0].exp()
        m = (a + b) / 2
        expected = (kl(a, m) + kl(b, m)) / 2 if variant == "paper" else (kl(m, a) + kl(m, b)) / 2
        torch.testing.assert_close(found[1], expected)


def test_the_buckets_are_those_of_32_layers():
    class Deep:
        layers, unembed = 32, staticmethod(lambda stream, normed: stream)

    assert Dola().interventions(Deep)[0].depths == tuple(range(0, 32, 2))
    assert Dola("low").interventions(Deep)[0].depths == tuple(range(0, 16, 2))
    assert Dola("high").interventions(Deep)[0].depths == tuple(range(16, 32, 2))
    Deep.layers = 8
    assert Dola("high").interventions(Deep)[0].depths == (4, 5, 6, 7)


def test_beams_and_the_audit_know_it(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    free, beams = (
        interp.generate(model, prompt, *c, num_beams=3, max_new_tokens=4, min_new_tokens=4) for c in ((), (STRONG,))
    )
    assert free.logprobs != beams.logprobs
    assert 0 < beams.audit[0].mean < float("inf")


def test_it_has_no_data_form(model_of):
    with pytest.raises(TypeError, match="CorrectLogits holds functions"):
        STRONG.interventions(model_of("llava"))[0].to_dict()
    with pytest.raises(ValueError, match="at least one depth"):
        CorrectLogits((), lambda x: x, lambda x, y: x)


def test_what_it_does_not_fit(model_of):
    assert "depths [7] are not earlier depths of the residual stream: it has 0..1" in Dola(depths=(1, 7)).refusal(
        model_of("llava")
    )
    assert Dola().refusal(model_of("qwen2")) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bucket": "middle"}, "bucket is one of low, high, all"),
        ({"variant": "other"}, "variant 'paper' or 'release', got"),
        ({"beta": 1.5}, r"beta is a share in \[0, 1\]"),
        ({"strength": -1.0}, "strength at least 0"),
        ({"depths": ()}, "leaves no candidate"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Dola(**settings)
