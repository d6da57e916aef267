import math

import pytest
import torch

import interp
from interp.data.tokens import EVERY, Segment
from interp.methods.farsight import Farsight
from interp.passes.capture import capture

SLOW = {"sigma": 0.05, "alibi": False}  # registers of tiny models that reach far


def test_it_conforms(tiny, conforms):
    conforms(tiny, Farsight(**SLOW), Farsight(math.inf))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Farsight()), under(model, prompt))


def registers(length, heads, sigma, alibi):
    """Return the scores of later tokens as the public patch writes them (head, query, key)."""
    i, j = torch.arange(length)[:, None], torch.arange(length)[None]
    behind = (j - i).clamp_min(0).float()
    basic, slower = -sigma * behind, -sigma * (1 - i / (length - 1) * 0.5) * behind
    slopes = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])[:, None, None]
    return 0.5 * basic + 0.5 * slower - (slopes * behind if alibi else 0)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
@pytest.mark.parametrize("method", [Farsight(), Farsight(**SLOW), Farsight(registers="all")])
def test_it_is_a_softmax_over_a_row_with_registers_whose_share_is_dropped(
    model_of, answered, under, by_hand, kind, method
):
    model = model_of(kind)
    prompt = answered(model)
    total = len(prompt) if method.registers == "all" else len(prompt) - len(prompt.response_ids)
    kept = {}

    def look(layer, scores):
        kept[layer] = scores
        return scores

    def lay_down(layer, pattern):
        scores, causal = kept[layer][0, :, :total, :total], torch.ones(total, total).tril().bool()
        row = torch.where(causal, scores, registers(total, scores.shape[0], method.sigma, method.alibi)).softmax(-1)
        pattern = pattern.clone()
        pattern[0, :, :total, :total] = row * causal
        return pattern

    expected = by_hand(model, prompt, look, lay_down)
    torch.testing.assert_close(under(model, prompt, method), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, under(model, prompt), atol=1e-3)


def test_the_released_patch_is_plain_attention(model_of, answered, under):
    """It adds the causal mask to the registers too, which leaves nothing of them: softmax, then × C, is causal attention."""
    torch.manual_seed(0)
    length, heads = 9, 4
    scores, causal = torch.randn(heads, length, length), torch.ones(length, length).tril()
    mask = torch.where(causal.bool(), 0, torch.finfo(torch.float32).min)
    released = (scores * causal + registers(length, heads, 0.8, True) + mask).softmax(-1) * causal
    torch.testing.assert_close(released, scores.masked_fill(~causal.bool(), -torch.inf).softmax(-1))
    without = (scores * causal + registers(length, heads, 0.8, True)).softmax(-1) * causal
    assert float((without.sum(-1) < 0.9).float().mean()) > 0.2

    model = model_of("llava")
    prompt = answered(model)
    with pytest.warns(UserWarning, match="changed nothing"):
        torch.testing.assert_close(under(model, prompt, Farsight(variant="release")), under(model, prompt))


def test_early_rows_lose_most_and_the_last_nothing(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    sums = capture(model, prompt, want={"pattern"}, interventions=[Farsight(alibi=False)]).pattern.sum(-1).mean((0, 1))
    assert float(sums[0]) < 0.7
    assert float(sums[-1]) == pytest.approx(1, abs=1e-6)
    assert float(sums.diff().clamp_max(0).abs().mean()) < 0.05


def test_all_registers_need_whole_passes(model_of, picture):
    model = model_of("llava")
    prompt, method = model.prepare(picture(), "What is there?"), Farsight(registers="all", **SLOW)
    with pytest.raises(ValueError, match=r"changes earlier rows at every step, .* give use_cache=False"):
        interp.generate(model, prompt, method)
    reply = interp.generate(model, prompt, method, use_cache=False, max_new_tokens=4, min_new_tokens=4)
    ids = []
    for _ in range(4):
        whole = prompt.with_response(ids) if ids else prompt
        logits = capture(model, whole, want={"logits"}, interventions=[method]).logits[-1]
        logits[list(interp.decoding.generate.end_tokens(model))] = -torch.inf
        ids.append(int(logits.argmax()))
    assert reply.ids == tuple(ids)
    cached = interp.generate(model, prompt, Farsight(**SLOW), max_new_tokens=4, min_new_tokens=4)
    assert cached.logprobs[0] == pytest.approx(reply.logprobs[0], abs=1e-5)
    assert cached.logprobs[1:] != pytest.approx(reply.logprobs[1:], abs=1e-6)


def test_response_rows_have_no_registers_by_default(model_of, answered):
    model = model_of("llava")
    prompt = answered(model)
    sums = {
        r: capture(model, prompt, want={"pattern"}, interventions=[Farsight(registers=r, **SLOW)]).pattern.sum(-1)
        for r in ("prompt", "all")
    }
    replied = prompt.layout.mask(Segment.RESPONSE)
    torch.testing.assert_close(sums["prompt"][..., replied], torch.ones_like(sums["prompt"][..., replied]))
    assert float(sums["all"][..., replied].min()) < 0.99
    assert prompt.layout.mask(EVERY).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma is above 0"),
        ({"registers": "none"}, "registers is 'prompt' or 'all'"),
        ({"variant": "other"}, "variant 'paper' or 'release', got"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Farsight(**settings)
