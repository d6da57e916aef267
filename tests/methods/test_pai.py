import pytest
import torch

import interp
from interp.data.tokens import EMITTING, Segment
from interp.decoding.generate import end_tokens
from interp.methods.pai import Pai
from interp.taps.running import run_pass

OPTIONS = {"max_new_tokens": 5, "min_new_tokens": 5}


def test_the_raised_scores_conform(seeing, conforms):
    conforms(seeing, Pai(3.0, guidance=1.0), Pai(0.0, guidance=1.0))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "llava_next"])
def test_it_conforms_with_guidance(model_of, conforms, kind):
    conforms(model_of(kind), Pai(3.0, guidance=1.5), Pai(0.0, guidance=1.0))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Pai(guidance=1.0)), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
def test_scores_of_the_image_are_raised_by_their_size_in_emitting_rows(model_of, answered, under, by_hand, kind):
    model = model_of(kind)
    prompt = answered(model)
    rows, image = (torch.tensor(prompt.layout.positions(s)) for s in (EMITTING, Segment.IMAGE))

    def boost(layer, scores):
        scores = scores.clone()
        part = scores[0][:, rows[:, None], image]
        scores[0][:, rows[:, None], image] = part + 0.7 * part.abs()
        return scores

    method = Pai(0.7, guidance=1.0, layers=(0, 1))
    torch.testing.assert_close(under(model, prompt, method), by_hand(model, prompt, boost), rtol=1e-5, atol=1e-5)


def test_published_layers_are_those_of_32(model_of):
    class Deep:
        layers = 32

    assert Pai().interventions(Deep)[0].layers == tuple(range(2, 32))
    Deep.layers = 8
    assert Pai().interventions(Deep)[0].layers == tuple(range(round(0.5), 8))


def last_log_probabilities(model, prompt, ids, *interventions):
    whole = prompt.with_response(ids) if ids else prompt
    with torch.no_grad(), run_pass(model.running([whole], interventions)):
        logits = model.module(**model.inputs([whole]), use_cache=False).logits[0, -1].float()
    return logits.log_softmax(-1)


def test_guidance_is_two_whole_passes_a_token_and_only_the_first_is_edited(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    method, ids = Pai(3.0, guidance=2.5), []
    reply = interp.generate(model, prompt, method, **OPTIONS)
    for _ in range(5):
        p = last_log_probabilities(model, prompt, ids, *method.interventions(model))
        blind = last_log_probabilities(model, prompt.without(Segment.IMAGE), ids)
        scores = 2.5 * (p - blind) + blind
        scores[p < p.max() + torch.tensor(0.1).log()] = -torch.inf
        scores[list(end_tokens(model))] = -torch.inf
        ids.append(int(scores.argmax()))
    assert reply.ids == tuple(ids)


def test_a_prompt_without_an_image_is_refused(model_of):
    model = model_of("llava")
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[0\] have none"):
        interp.generate(model, model.prepare(text="What is there?"), Pai())


def test_what_it_does_not_fit(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    assert "this is a language model" in Pai().refusal(model_of("qwen2"))
    assert "guidance=1 omits it" in Pai().refusal(model_of("instructblip"))
    assert Pai(guidance=1.0).refusal(model_of("instructblip")) is None
    with pytest.raises(ValueError, match="its second stream follows one reply a prompt, so leave out num_beams"):
        interp.generate(model, prompt, Pai(), num_beams=2)
    assert interp.generate(model, prompt, Pai(guidance=1.0), num_beams=2, max_new_tokens=2).ids


@pytest.mark.parametrize("settings", [{"alpha": -0.1}, {"guidance": 0.5}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="an alpha of at least 0 and a guidance of at least 1, got"):
        Pai(**settings)
