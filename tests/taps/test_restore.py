"""A model that is refused is left as it came."""

import copy

import pytest
import torch

import interp
from interp.checks.model_types import tiny_model
from interp.families.base import family

IDS = torch.arange(6, 46)[None]


def logits(module):
    with torch.no_grad():
        return module(input_ids=IDS, use_cache=False).logits


@pytest.fixture
def sinks():
    """A model whose attention has learned sinks, which our attention function does not know: it is refused."""
    module = tiny_model("gpt_oss").train()
    for block in module.model.layers:
        torch.nn.init.normal_(block.self_attn.sinks, 3.0)
    return module


def test_a_refused_model_is_left_bit_equal(sinks):
    before, hooks = copy.deepcopy(sinks), len(sinks._forward_pre_hooks)
    expected = logits(before)
    with pytest.raises(ValueError, match="the taps do not fit"):
        interp.load(sinks, processor=family("llama").tiny()[1])
    torch.testing.assert_close(logits(sinks), expected, rtol=0, atol=0)
    assert sinks.config._attn_implementation == "eager"
    assert sinks.training
    assert all(p.requires_grad for p in sinks.parameters())
    assert len(sinks._forward_pre_hooks) == hooks
    assert not [n for n, _ in sinks.named_modules() if n.endswith("taps")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_any_exception_leaves_a_model_as_it_came(error, monkeypatch):
    module, processor = family("llama").tiny()
    expected, implementation = logits(module), module.config._attn_implementation

    def fail(*_, **__):
        raise error("stopped")

    monkeypatch.setattr("interp.models.model.Preparation", fail)
    with pytest.raises(error, match="stopped"):
        interp.load(module, processor=processor)
    assert module.config._attn_implementation == implementation
    torch.testing.assert_close(logits(module), expected, rtol=0, atol=0)
    assert not [n for n, _ in module.named_modules() if n.endswith("taps")]


def test_a_model_that_fits_keeps_its_taps():
    module, processor = family("llama").tiny()
    interp.load(module, processor=processor)
    assert [n for n, _ in module.named_modules() if n.endswith("taps")]
