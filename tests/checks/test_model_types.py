"""Tiny models of any model type."""

import pytest
import torch

from interp.checks.model_types import MOST_PARAMETERS, model_types, tiny_model

DENSE = ("llama", "mistral", "qwen3", "gemma2", "phi3", "olmo2", "cohere", "granite", "starcoder2", "gpt_neox")


def logits(module):
    with torch.no_grad():
        return module(input_ids=torch.arange(6, 106)[None], use_cache=False).logits


@pytest.mark.parametrize("kind", [*DENSE, "gpt_oss", "deepseek_v3", "llava"])
def test_a_type_is_built_small_and_runs_past_its_windows(kind):
    module = tiny_model(kind)
    assert module.config.model_type == kind
    assert sum(p.numel() for p in module.parameters()) < MOST_PARAMETERS
    assert not module.training
    assert bool(logits(module).isfinite().all())


def test_the_same_type_is_built_twice_alike_and_the_random_state_stays():
    state = torch.get_rng_state()
    torch.testing.assert_close(logits(tiny_model("llama")), logits(tiny_model("llama")), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_matters_in_a_tiny_model():
    module = tiny_model("llama")
    ids = torch.arange(6, 46)[None]
    other = ids.clone()
    other[0, 0] = 100
    with torch.no_grad():
        moved = (module(input_ids=ids).logits - module(input_ids=other).logits)[0, -1].abs().max()
    assert moved > 0.05


def test_types_are_listed_and_unknown_ones_refused():
    assert {"llama", "llava", "qwen2_5_vl", "gpt_oss"} <= set(model_types())
    with pytest.raises(ValueError, match="transformers has no model_type 'lama'"):
        tiny_model("lama")
