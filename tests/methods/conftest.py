"""What the tests of methods share: tiny models, and the same models without taps whose attention is edited by hand."""

import functools

import pytest
import torch
from torch.testing import assert_close
from transformers import AttentionInterface, AttentionMaskInterface, LogitsProcessor
from transformers.masking_utils import eager_mask

import interp
from interp.checks.change import _special
from interp.decoding.generate import end_tokens
from interp.families.base import family
from interp.interventions.method import resolve
from interp.taps.running import run_pass
from interp.testing.interventions import check_method

SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("internvl", "instructblip")]
SEEING = ["llava", "qwen2_5_vl", *SLOW]
"""A plain and a grouped-query model always; a tiled one and one with a Q-Former in `make test-all`."""


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
        settled = resolve(model, [prompt], methods)
        with torch.no_grad(), run_pass(model.running(settled.prompts, settled.interventions)):
            return model.module(**model.inputs(settled.prompts), use_cache=False).logits

    return logits


@pytest.fixture
def uncached():
    """Return the function from a model's inputs to a function of a reply: the last logits of one pass of a model without taps."""

    def stream(model, inputs, module=None):
        def last(ids):
            plain = module or _plain(model.config.model_type)
            plain.set_attn_implementation("eager")
            grown = {n: v.clone() for n, v in inputs.items()}
            for name in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
                if name in grown and ids:
                    new = list(ids) if name == "input_ids" else [int(name == "attention_mask")] * len(ids)
                    grown[name] = torch.cat([grown[name], torch.tensor([new])], 1)
            with torch.no_grad():
                return plain(**grown, use_cache=False).logits[0, -1].float()

        return last

    return stream


class _Keeper(LogitsProcessor):
    """Keeps the scores as the rules before it left them."""

    def __init__(self):
        self.kept = []

    def __call__(self, input_ids, scores):
        self.kept.append(scores[0].clone())
        return scores


@pytest.fixture
def two_passes():
    """Return the function that decodes with two whole passes a token and compares every score with the method's own."""

    def check(model, prompt, method, streams, combine, new=6, beside=()):
        keeper = _Keeper()
        kept = keeper.kept
        banned = sorted({*_special(model), *end_tokens(model)})  # a placeholder in a reply would ask for an image
        reply = interp.generate(
            model, prompt, *beside, method, keeper, max_new_tokens=new, min_new_tokens=new, suppress_tokens=banned
        )
        ids = []
        for step, got in enumerate(kept):
            here, there = (stream(ids) for stream in streams)
            here = here.index_fill(0, torch.tensor(banned), -torch.inf)
            want = combine(here, there, step)
            assert_close(got, want, rtol=1e-5, atol=5e-5)
            ids.append(int(want.argmax()))
        assert len(kept) == new
        assert reply.ids == tuple(ids)
        return reply

    return check


@pytest.fixture
def set_apart():
    """Return the function that makes the usual contrast, written down on its own: probabilities decide what is plausible."""

    def make(alpha, beta):
        def combine(here, there, step):
            scores = here + alpha * (here - there)
            scores[here.softmax(-1) < beta * here.softmax(-1).max()] = -torch.inf
            return scores

        return combine

    return make
