import pytest
import torch

import interp
from interp.data.tokens import EMITTING, Segment
from interp.families.base import family_names
from interp.interventions.attention import MaskAttention
from interp.interventions.function import Apply
from interp.passes.capture import capture


@pytest.mark.parametrize("kind", family_names())
def test_a_model_knows_its_sizes(model_of, picture, kind):
    model = model_of(kind)
    got = capture(
        model, model.prepare(picture() if model.family.image_token else None, "Why?"), want={"k", "q", "resid_pre"}
    )
    assert got.k.shape[0] == model.layers
    assert got.k.shape[2:] == (model.kv_heads, model.head_dim)
    assert got.q.shape[2:] == (model.heads, model.head_dim)
    assert got.resid_pre.shape[2] == model.dim
    assert f"{model.layers} layers × {model.heads} heads" in repr(model)


def test_parameters_are_frozen_and_the_model_evaluates(model_of):
    model = model_of("llava")
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not model.module.training


def test_taps_are_installed_once(model_of):
    model = model_of("llava")
    before = [name for name, _ in model.module.named_modules()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())
    again = interp.load(model.module, processor=model.processor)
    assert [name for name, _ in again.module.named_modules()] == before
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in again.module.modules()) == hooks


def test_tapped_weights_are_saved_under_their_own_names(model_of, tmp_path):
    from interp.families.base import family

    model = model_of("llama")
    assert set(model.module.state_dict()) == set(family("llama").tiny()[0].state_dict())


def test_interventions_are_checked_before_anything_runs(model_of, picture):
    model = model_of("gpt_neox")
    prompt = model.prepare(text="Why?")
    with pytest.raises(ValueError, match=r"names layers \[2, 7\], but .* has layers 0..1"):
        model.check([prompt], [MaskAttention(Segment.USER, layers=[0, 2, 7])])
    with pytest.raises(
        ValueError,
        match=r"acts at resid_mid, but .* has only resid_pre, q, k, v, attn_scores, pattern, z, attn_out, mlp_out, resid_post, logits",
    ):
        model.check([prompt], [Apply("resid_mid", lambda value, here: value)])
    with pytest.raises(
        ValueError, match=r"MaskAttention\(.*: positions \[99\] are outside this conversation of \d+ tokens"
    ):
        model.check([prompt], [MaskAttention([99])])
    model.check([prompt], [MaskAttention(EMITTING, layers=[1])])


@pytest.mark.usefixtures("unchecked")
def test_something_that_is_no_intervention_is_refused(model_of):
    model = model_of("llama")
    with pytest.raises(TypeError, match=r"interventions are Intervention objects, got function: <function"):
        model.check([], [lambda value, here: value])


def test_layers_of_other_parts_are_not_the_decoder_s(model_of, picture):
    model = model_of("llava")
    change = Apply("pattern", lambda value, here: value * 0.5, layers=[model.layers], part="vision")
    reply = interp.generate(model, model.prepare(picture(), "Why?"), change, max_new_tokens=1)
    assert reply.audit[0].layers == {model.layers}


def test_inputs_take_the_model_s_type(model_of, picture):
    model = model_of("llava", torch.bfloat16)
    inputs = model.inputs([model.prepare(picture(), "Why?")])
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.long


def test_unembedding_the_last_stream_gives_the_logits(model_of, picture):
    for kind in ("llava", "gpt2", "qwen2"):
        model = model_of(kind)
        got = capture(
            model, model.prepare(picture() if kind == "llava" else None, "Why?"), want={"resid_post", "logits"}
        )
        torch.testing.assert_close(model.unembed(got.resid_post[-1]), got.logits, rtol=1e-4, atol=1e-5)


def test_weights_of_a_layer_that_is_not_there_are_refused(model_of):
    model = model_of("llama")
    for layer in (-1, 2):
        with pytest.raises(IndexError, match=f"layer {layer} is not there: .* has layers 0..1"):
            model.weights(layer)


def test_a_trace_can_be_given_tensors(model_of):
    model = model_of("llama")
    prompt = model.prepare(text="Why?")
    with torch.no_grad(), model.trace(**prompt.inputs):
        logits = model.seen.output.logits.save()
    torch.testing.assert_close(logits[0], capture(model, prompt, want={"logits"}).logits, rtol=1e-4, atol=1e-5)
