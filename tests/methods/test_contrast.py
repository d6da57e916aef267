import pytest
import torch

import interp
from interp.data.tokens import Segment
from interp.decoding.generate import end_tokens
from interp.interventions.attention import MaskAttention
from interp.methods.contrast import Contrast
from interp.taps.running import run_pass

OPTIONS = {"max_new_tokens": 6, "min_new_tokens": 6}


def black(prompt):
    """Return the same question about a black picture, or another question where there is none."""
    if prompt.images:
        return prompt.with_image(prompt.images[0].point(lambda x: 0))
    return prompt.again(type(prompt.request)(text="Why is that so, of all things?"))


def against(model):
    return None if model.family.image_token and not model.needs_image else black


def test_it_conforms(tiny, conforms):
    conforms(
        tiny, Contrast(against(tiny), alpha=4.0, beta=0.0), Contrast(against(tiny), alpha=0.0, beta=0.0), first=False
    )


def test_bfloat16_does_not_turn_it_off(model_of, picture):
    model = model_of("qwen2_5_vl", torch.bfloat16)
    prompt = model.prepare(picture(), "What is there?")
    assert (
        interp.generate(model, prompt, Contrast(alpha=4.0, beta=0.0), **OPTIONS).ids
        != interp.generate(model, prompt, **OPTIONS).ids
    )


def last_logits(model, prompt, ids, *interventions):
    whole = prompt.with_response(ids) if ids else prompt
    with torch.no_grad(), run_pass(model.running([whole], interventions)):
        logits = model.module(**model.inputs([whole]), use_cache=False).logits[0, -1].float()
    return logits.index_fill(0, torch.tensor(list(end_tokens(model))), -torch.inf)


def test_it_is_two_whole_passes_a_token(tiny, answered):
    picture = answered(tiny).request.images
    prompt = tiny.prepare(list(picture) or None, "What is there?")
    method = Contrast(against(tiny), alpha=2.0, beta=0.05)
    reply = interp.generate(tiny, prompt, method, **OPTIONS)
    ids, other = [], method.other(prompt)
    for _ in range(6):
        here, there = last_logits(tiny, prompt, ids), last_logits(tiny, other, ids)
        scores = 3 * here - 2 * there
        scores[here.softmax(-1) < 0.05 * here.softmax(-1).max()] = -torch.inf
        ids.append(int(scores.argmax()))
    assert reply.ids == tuple(ids)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "instructblip"])
def test_the_second_stream_is_under_none_of_the_first_one_s_edits(model_of, picture, kind):
    model = model_of(kind)
    prompt = model.prepare(picture(), "What is there?")
    edit = MaskAttention(Segment.IMAGE, queries=Segment.USER | Segment.RESPONSE)
    reply = interp.generate(model, prompt, edit, Contrast(black, alpha=2.0, beta=0.0), **OPTIONS)
    ids, other = [], black(prompt)
    for _ in range(6):
        ids.append(
            int(
                (3 * last_logits(model, prompt, ids, edit) - 2 * last_logits(model, other, ids))
                .nan_to_num(-torch.inf)
                .argmax()
            )
        )
    assert reply.ids == tuple(ids)
    assert reply.audit[0].calls == 6 * model.layers


def test_the_second_stream_can_have_edits_of_its_own(model_of, picture):
    model = model_of("instructblip")
    prompt = model.prepare(picture(), "What is there?")
    blind = MaskAttention(Segment.IMAGE, queries=Segment.USER | Segment.RESPONSE)
    method = Contrast(alpha=2.0, beta=0.0, other_interventions=(blind,))
    reply = interp.generate(model, prompt, method, **OPTIONS)
    ids = []
    for _ in range(6):
        ids.append(
            int(
                (3 * last_logits(model, prompt, ids) - 2 * last_logits(model, prompt, ids, blind))
                .nan_to_num(-torch.inf)
                .argmax()
            )
        )
    assert reply.ids == tuple(ids)


def test_what_qwen_keeps_on_the_model_is_the_first_stream_s(model_of, picture):
    """The offset of an image and that of a prompt without one differ; mixed up, every position of a reply is wrong."""
    model = model_of("qwen2_5_vl")
    prompt = model.prepare(picture(), "What is there?")
    interp.generate(model, prompt, **OPTIONS)
    alone = model.module.model.rope_deltas.clone()
    interp.generate(model, prompt, Contrast(), **OPTIONS)
    torch.testing.assert_close(model.module.model.rope_deltas, alone)
    assert int(alone.abs().max()) > 0


def test_sampling_and_other_methods_go_with_it(model_of, picture):
    from interp.methods.sgrs import Sgrs

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    method = Contrast(alpha=2.0)
    greedy = interp.generate(model, prompt, method, **OPTIONS)
    sampled = interp.generate(model, prompt, method, do_sample=True, top_k=1, **OPTIONS)
    walked = interp.generate(model, [prompt, prompt], method + Sgrs(candidates=1), **OPTIONS)
    assert greedy.ids == sampled.ids == walked[0].ids == walked[1].ids
    warm = [
        interp.generate(model, prompt, method, do_sample=True, temperature=3.0, seed=s, **OPTIONS).ids
        for s in (1, 1, 2)
    ]
    assert warm[0] == warm[1] != warm[2]


def test_what_it_does_not_fit(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    for options in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(
            ValueError, match=f"its second stream follows one reply a prompt, so leave out {next(iter(options))}"
        ):
            interp.generate(model, prompt, Contrast(), **options)
    assert "this is a language model; give against=prompt" in Contrast().refusal(model_of("qwen2"))
    assert "it cannot run without an image" in Contrast().refusal(model_of("instructblip"))


@pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"beta": 1.5}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"alpha is at least 0 and beta a share in \[0, 1\], got"):
        Contrast(**settings)
