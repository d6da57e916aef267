"""What the tests of methods share: tiny models, and the same models without taps whose attention is edited by hand."""

import functools

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from interp.families import family
from interp.method import resolved
from interp.running import run
from interp.testing import check_method

SEEING = ["llava", "qwen2_5_vl", "internvl", "instructblip"]


@pytest.fixture(params=[*SEEING, "qwen2"])
def tiny(request, model_of):
    """Every kind of tiny model."""
    return model_of(request.param)


@pytest.fixture(params=SEEING)
def seeing(request, model_of):
    """Every kind of tiny model that sees."""
    return model_of(request.param)


@pytest.fixture
def answered(picture):
    """Return the function that makes a prompt with a reply of 12 tokens, its first token a sink."""

    def make(model, question="What is there?", reply="A red chair."):
        image = None if model.family.image_token is None else picture()
        return model.prepare(image, question, response=reply).marked(sink=[0])

    return make


@pytest.fixture
def conforms():
    """Return the function that runs every check on a method and fails with those that failed."""

    def check(model, method, neutral=None, **settings):
        failed = [f"{c.name}: {c.detail}" for c in check_method(model, method, neutral, **settings) if not c.passed]
        assert not failed, "\n".join(failed)

    return check


@functools.cache
def _plain(kind):
    return family(kind).tiny()[0].requires_grad_(False)


@pytest.fixture
def by_hand():
    """Return the function that runs a model without taps, with functions of (layer, array) in place of its scores and pattern."""

    def logits(model, prompt, scores=None, pattern=None, inside="layers", plain=None):
        module = plain or _plain(model.config.model_type)
        paths = {id(m): n for n, m in module.named_modules()}
        seen = []

        def attend(attention, q, k, v, attention_mask=None, scaling=None, dropout=0.0, **_):
            group, own = q.shape[1] // k.shape[1], f"{model.family.decoder}.layers." in paths[id(attention)] + "."
            chosen = own if inside == "layers" else inside in paths[id(attention)]
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            z = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
            layer = len(seen)
            z = scores(layer, z) if chosen and scores else z
            a = (z if attention_mask is None else z + attention_mask[..., : k.shape[2]]).softmax(-1)
            a = pattern(layer, a) if chosen and pattern else a
            if chosen:
                seen.append(a)
            return (a @ v).transpose(1, 2).contiguous(), a

        AttentionInterface.register("by_hand", attend)
        AttentionMaskInterface.register("by_hand", eager_mask)
        module.set_attn_implementation("by_hand")
        with torch.no_grad():
            return module(**model.inputs([prompt]), use_cache=False).logits

    return logits


@pytest.fixture
def under():
    """Return the function that runs a model under methods."""

    def logits(model, prompt, *methods):
        settled = resolved(model, [prompt], methods)
        with torch.no_grad(), run(model.running(settled.prompts, settled.interventions)):
            return model.module(**model.inputs(settled.prompts), use_cache=False).logits

    return logits
