"""What the methods that contrast with a second stream have in common."""

import pytest
import torch

import interp
from interp.interventions.attention import ScaleScores
from interp.methods.damro import Damro
from interp.methods.icd import Icd
from interp.methods.imccd import Imccd
from interp.methods.m3id import M3id
from interp.methods.sid import Sid
from interp.methods.vaf import Vaf
from interp.methods.vcd import Vcd

STRONG = [
    Vcd(4.0, 0.05, noise=999),
    Icd(4.0, 0.05),
    Sid(4.0, 0.05, rank=2, layer=1),
    Damro(4.0, 0.05, top=2),
    Imccd(8.0, 0.05),
    M3id(rate=1.0, beta=0.05),
]
NEUTRAL = [
    Vcd(0.0, 0.0),
    Icd(0.0, 0.0),
    Sid(0.0, 0.0, rank=2, layer=1),
    Damro(0.0, 0.0, top=2),
    Imccd(0.0, 0.0),
    M3id(rate=0.0, beta=0.0),
]
OPTIONS = {"max_new_tokens": 6, "min_new_tokens": 6}
each = pytest.mark.parametrize("method", STRONG, ids=lambda m: type(m).__name__)


@pytest.fixture
def asked(model_of, picture):
    model = model_of("llava")
    return model, model.prepare(picture(), "What is there?")


@each
def test_sampling_is_under_it_too(asked, method):
    model, prompt = asked
    greedy = interp.generate(model, prompt, method, **OPTIONS)
    sampled = interp.generate(model, prompt, method, do_sample=True, top_k=1, **OPTIONS)
    assert greedy.ids == sampled.ids != interp.generate(model, prompt, **OPTIONS).ids
    warm = [
        interp.generate(model, prompt, method, do_sample=True, temperature=5.0, seed=s, **OPTIONS).ids
        for s in (1, 1, 2)
    ]
    assert warm[0] == warm[1] != warm[2]


@pytest.mark.parametrize("method", NEUTRAL, ids=lambda m: type(m).__name__)
def test_the_neutral_setting_decodes_as_usual(asked, method):
    model, prompt = asked
    free, idle = (interp.generate(model, prompt, *m, **OPTIONS) for m in ([], [method]))
    assert (free.ids, free.logprobs) == (idle.ids, idle.logprobs)


@each
def test_bfloat16_does_not_turn_it_off(model_of, picture, method):
    model = model_of("llava", torch.bfloat16)
    prompt = model.prepare(picture(), "What is there?")
    assert interp.generate(model, prompt, method, **OPTIONS).ids != interp.generate(model, prompt, **OPTIONS).ids


@each
def test_it_goes_with_a_method_that_edits(asked, method):
    model, prompt = asked
    reply = interp.generate(model, prompt, Vaf(enhance=2.0, layers=(0, 1)) + method, **OPTIONS)
    edits = [f for f in reply.audit if isinstance(f.intervention, ScaleScores)]
    assert len(edits) == 2
    assert all(f.calls == 2 * OPTIONS["max_new_tokens"] for f in edits)


@each
def test_what_no_second_stream_follows_is_refused(model_of, asked, method):
    model, prompt = asked
    for options in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(ValueError, match=f"follows one reply a prompt, so leave out {next(iter(options))}"):
            interp.generate(model, prompt, method, **options)
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[1\] have none"):
        interp.generate(model, [prompt, model.prepare(text="Why?")], method)
    assert method.refusal(model_of("qwen2")).endswith("this is a language model")
    with pytest.raises(ValueError, match=r"alpha is at least 0 and beta a share in \[0, 1\], got"):
        type(method)(beta=1.5)


@each
def test_it_is_two_passes_and_printed_with_its_settings(method):
    assert method.passes == 2
    assert (method + Vaf()).passes == 2
    assert "beta=0.05" in str(method)
