"""TransformerLens' own tools run on a capture, and say what the capture says."""

import pytest
import torch
from transformer_lens import ActivationCache

from interp.data.export import INSIDE_ATTENTION, ON_THE_STREAM
from interp.data.sites import SITES
from interp.passes.capture import capture
from interp.taps.points import Tap


@pytest.fixture(params=["qwen2_vl", "llava", "gpt2"])
def found(request, model_of, picture):
    model = model_of(request.param)
    prompt = model.prepare(picture() if model.family.image_token else None, "What is this?", response="It")
    want = set(model.sites)
    return model, capture(model, prompt, want=want, grad={"pattern"}, target=0)


def test_every_site_has_its_name(found):
    model, kept = found
    cache = kept.to_activation_cache()
    assert isinstance(cache, ActivationCache)
    assert {*INSIDE_ATTENTION, *ON_THE_STREAM, "logits"} == set(SITES)
    names = {m.name for m in model.module.modules() if isinstance(m, Tap) and m.part == "decoder"} - {"hook_logits"}
    gradients = {f"blocks.{i}.attn.hook_pattern_grad" for i in range(model.layers)}
    assert set(cache.keys()) == names | gradients | {"hook_embed"}


def test_the_short_names_of_transformer_lens_find_the_arrays(found):
    _, kept = found
    cache = kept.to_activation_cache()
    for layer in (0, 1, -1):
        torch.testing.assert_close(cache["pattern", layer][0], kept.pattern[layer], rtol=0, atol=0)
        torch.testing.assert_close(cache["z", layer][0], kept.z[layer], rtol=0, atol=0)
        torch.testing.assert_close(cache["resid_post", layer][0], kept.resid_post[layer], rtol=0, atol=0)
        torch.testing.assert_close(cache["attn_scores", layer][0], kept.attn_scores[layer], rtol=0, atol=0)
    torch.testing.assert_close(cache["blocks.1.attn.hook_pattern_grad"][0], kept.pattern_grad[1], rtol=0, atol=0)


def test_activations_can_be_stacked(found):
    _, kept = found
    cache = kept.to_activation_cache()
    torch.testing.assert_close(cache.stack_activation("pattern")[:, 0], kept.pattern, rtol=0, atol=0)
    torch.testing.assert_close(cache.stack_activation("v")[:, 0], kept.v, rtol=0, atol=0)


def test_the_stream_is_taken_apart_and_adds_up(found):
    _, kept = found
    cache = kept.to_activation_cache()
    pieces, labels = cache.decompose_resid(return_labels=True)
    assert labels == ["embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out"]
    torch.testing.assert_close(pieces.sum(0)[0], kept.resid_post[-1], rtol=1e-4, atol=1e-4)
    stream, labels = cache.accumulated_resid(return_labels=True)
    assert labels == ["0_pre", "1_pre", "final_post"]
    torch.testing.assert_close(stream[:, 0], torch.cat([kept.resid_pre, kept.resid_post[-1:]]), rtol=0, atol=0)


def test_with_the_model_the_heads_results_add_up(found):
    model, kept = found
    cache = kept.to_activation_cache(model)
    results, labels = cache.stack_head_results(return_labels=True)
    assert labels[:2] == ["L0H0", "L0H1"]
    results = results[:, 0].unflatten(0, (model.layers, model.heads)).sum(1)
    bias = getattr(model.blocks[0].get_submodule(model.family.attention), "c_proj", None)  # GPT-2's output has one
    for layer, result in enumerate(results):
        expected = kept.attn_out[layer]
        if bias is not None:
            expected = expected - model.blocks[layer].attn.c_proj.bias
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_with_the_model_the_logit_lens_is_the_model_s_own(found):
    model, kept = found
    normed = kept.to_activation_cache(model).accumulated_resid(apply_ln=True)[-1]
    logits = model.module.get_output_embeddings()(normed[0])
    torch.testing.assert_close(logits, kept.logits, rtol=1e-4, atol=1e-4)


def test_a_capture_of_some_layers_has_those(found):
    model, _ = found
    prompt = model.prepare(inputs={"input_ids": torch.arange(10, 20)[None]})
    cache = capture(model, prompt, want={"pattern", "resid_post"}, layers=[1]).to_activation_cache()
    assert set(cache.keys()) == {"blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post"}


def test_other_parts_are_left_out(model_of, picture):
    model = model_of("llava")
    kept = capture(model, model.prepare(picture(), "Why?"), want={"vision.pattern", "z"})
    assert set(kept.to_activation_cache().keys()) == {"blocks.0.attn.hook_z", "blocks.1.attn.hook_z"}


def test_a_saved_capture_can_be_exported(found, tmp_path):
    from interp.data.prompt import Capture

    _, kept = found
    again = Capture.load(kept.save(tmp_path / "c.safetensors")).to_activation_cache()
    torch.testing.assert_close(again["pattern", 1][0], kept.pattern[1], rtol=0, atol=0)
