"""Every family passes every check, and every check fails on a model that deserves it."""

import contextlib
from dataclasses import replace

import pytest
import torch
from transformers import AttentionMaskInterface

import interp
from interp.checks import model as conformance
from interp.checks.model import CHECKS, check, check_discovered, parts_of
from interp.families.base import family, family_names
from interp.models.model import Model
from interp.taps import attention as attending
from interp.taps import running
from interp.taps.eager import EagerRows
from interp.taps.state import Conversations
from interp.testing.models import check_family, check_model, sample_prompts


@pytest.mark.parametrize(
    "dtype", [None, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("kind", family_names())
def test_every_family_passes_every_check(kind, dtype):
    done = check_family(kind, dtype)
    assert {c.name: c.detail for c in done if not c.passed} == {}
    assert [c.name for c in done] == list(CHECKS)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("llama", ()),
        ("llava", ("vision",)),
        ("instructblip", ("vision", "qformer", "cross")),
        ("qwen2_vl", ("vision",)),
    ],
)
def test_parts_with_attention_of_their_own_are_found(model_of, kind, parts):
    assert parts_of(model_of(kind)) == parts


# -------------------------------------------------------------------------------------------------------- broken on purpose


@pytest.fixture
def llava():
    """Return a model of one's own, to be broken."""
    module, processor = family("llava").tiny()
    return interp.load(module, processor=processor)


def failed(model):
    """Return what every failed check says."""
    return {c.name: c.detail for c in check_model(model) if not c.passed}


@pytest.fixture
def masks(monkeypatch):
    """Return what replaces the mask function, until the test ends."""
    before = AttentionMaskInterface._global_mapping["interp"]
    yield lambda function: AttentionMaskInterface.register("interp", function)
    AttentionMaskInterface.register("interp", before)


def test_a_missing_mask_function_is_noticed(llava, masks):
    masks(lambda *args, **kwargs: None)
    assert "AssertionError" in failed(llava)["batch = single"]


def test_attention_to_the_future_is_noticed(llava, masks):
    def see_all(batch_size, q_length, kv_length, *args, **kwargs):
        return torch.ones(batch_size, 1, q_length, kv_length, dtype=torch.bool)

    masks(see_all)
    assert {"logits = eager", "fast path = sdpa", "pattern, gradient"} <= set(failed(llava))


def test_a_dropped_head_is_noticed(llava, monkeypatch):
    real = EagerRows.attend

    def drop(self):
        z, pattern = real(self)
        return z * (torch.arange(z.shape[1]) > 0)[:, None, None], pattern

    monkeypatch.setattr(EagerRows, "attend", drop)
    assert "logits = eager" in failed(llava)


def test_a_pattern_that_is_not_the_one_used_is_noticed(llava, monkeypatch):
    real = running.Pass.visit

    def show_a_copy(self, part, site, layer, value):
        seen = real(self, part, site, layer, value)
        return seen + 0 if site != "pattern" else seen.detach().clone() + 0 * seen.sum().detach()

    monkeypatch.setattr(running.Pass, "visit", show_a_copy)
    assert "pattern, gradient" in failed(llava)


@pytest.mark.parametrize(
    "wrong", [{"mlp_out": "post_attention_layernorm"}, {"attn_out": "input_layernorm"}, {"resid_mid": "mlp"}], ids=str
)
def test_a_record_that_misreads_the_stream_is_noticed(wrong):
    module, processor = family("llava").tiny()
    model = Model(module, processor, replace(family("llava"), **wrong), "misread")
    assert "stream adds up" in failed(model)


def test_a_slow_fast_path_is_noticed(llava, monkeypatch):
    real = attending.sdpa_attention_forward

    def other(module, query, key, value, mask, **kwargs):
        return real(module, query, key, value * (1 + 1e-5), mask, **kwargs)

    monkeypatch.setattr(attending, "sdpa_attention_forward", other)
    assert "fast path = sdpa" in failed(llava)


@pytest.mark.parametrize(
    "site",
    [
        "resid_pre",
        "q",
        "k",
        "v",
        "attn_scores",
        "pattern",
        "z",
        "attn_out",
        "resid_mid",
        "mlp_out",
        "resid_post",
        "logits",
    ],
)
def test_a_tap_that_ignores_edits_is_noticed(llava, monkeypatch, site):
    real = running.Pass.visit

    def ignore(self, part, where, layer, value):
        changed = real(self, part, where, layer, value)
        return value if where == site and part == "decoder" else changed

    monkeypatch.setattr(running.Pass, "visit", ignore)
    said = failed(llava)["every site causal"]
    assert said.startswith(f"AssertionError: a change at {site} of layer 0")
    assert said.endswith("leaves the logits as they were")


def test_a_vision_tap_that_ignores_edits_is_noticed(llava, monkeypatch):
    real = running.Pass.visit

    def ignore(self, part, where, layer, value):
        changed = real(self, part, where, layer, value)
        return value if part == "vision" else changed

    monkeypatch.setattr(running.Pass, "visit", ignore)
    assert "a change at vision.pattern leaves" in failed(llava)["every site causal"]


def test_a_tap_that_disturbs_is_noticed(llava, monkeypatch):
    real = running.Pass.visit

    def disturb(self, *args):
        changed = real(self, *args)
        return changed * (1 + 1e-4) if self.spec.interventions else changed

    monkeypatch.setattr(running.Pass, "visit", disturb)
    assert "neutral" in failed(llava)


def test_an_edit_that_misses_the_first_token_is_noticed(llava, monkeypatch):
    real = running.Pass.eager_rows

    def late(self, record, queries):
        return torch.empty(0, dtype=torch.long) if queries > 1 and not self.spec.reads else real(self, record, queries)

    monkeypatch.setattr(running.Pass, "eager_rows", late)
    assert "the first generated token was not under the edit" in failed(llava)["generation"]


def test_an_edit_that_misses_a_later_step_is_noticed(llava, monkeypatch):
    real = running.Pass.eager_rows

    def once(self, record, queries):
        return real(self, record, queries) if self.state.step < 1 else torch.empty(0, dtype=torch.long)

    monkeypatch.setattr(running.Pass, "eager_rows", once)
    said = failed(llava)
    assert "the edit was called 2 times in 3 steps of 2 layers" in said["generation"]
    assert "cached = uncached" in said


def test_roles_that_do_not_follow_the_cache_are_noticed(llava, monkeypatch):
    real = Conversations.advance
    monkeypatch.setattr(Conversations, "advance", lambda self, batch, past, *rest: real(self, batch, 0, *rest))
    assert {"generation", "cached = uncached"} & set(failed(llava))


def test_roles_that_do_not_follow_the_padding_are_noticed(llava, monkeypatch):
    def unpadded(self, which, length):
        row = which.mask(self.layouts[0].grown_to(max(length, len(self.layouts[0]))))[:length]
        return row.repeat(self.batch, 1)

    monkeypatch.setattr(Conversations, "mask_to", unpadded)
    assert "batch = single" in failed(llava)


def test_a_pass_that_stays_is_noticed(llava, monkeypatch):
    @contextlib.contextmanager
    def stay(now):
        token = running.running.set(now)
        yield now
        running.running.reset(token)

    monkeypatch.setattr(conformance, "run_pass", stay)
    try:
        assert "left as found" in failed(llava)
    finally:
        running.running.set(None)


def test_a_hook_that_stays_is_noticed(llava, monkeypatch):
    real = conformance.capture

    def leave(model, *args, **kwargs):
        model.module.register_forward_hook(lambda *_: None)
        return real(model, *args, **kwargs)

    monkeypatch.setattr(conformance, "capture", leave)
    assert "hooks, a running pass or gradients were left on the model" in failed(llava)["left as found"]


def test_weights_that_collect_gradients_are_noticed(llava):
    llava.module.lm_head.weight.requires_grad_()
    assert "gradients were left on the model" in failed(llava)["left as found"]


def test_a_check_that_cannot_run_says_why(llava, monkeypatch):
    def explode(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(conformance, "generate", explode)
    said = failed(llava)
    assert said["generation"] == said["cached = uncached"] == "RuntimeError: no such luck"


def test_a_discovered_model_that_does_not_fit_is_refused_with_the_reason(llava, monkeypatch):
    monkeypatch.setattr(running.Pass, "visit", lambda self, part, site, layer, value: value)
    with pytest.raises(
        ValueError, match=r"the taps do not fit Llava.* \(llava\): .*every site causal: .* Add interp/families/llava.py"
    ):
        check_discovered(llava)


# ----------------------------------------------------------------------------------------------------------------- table


def test_checks_run_one_by_one(model_of):
    done = check(model_of("llama"), sample_prompts(model_of("llama")))
    assert [c.name for c in done] == list(CHECKS)
    assert all(c.passed for c in done)
