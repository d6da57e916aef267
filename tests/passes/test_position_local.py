"""The position-local backward: one backward pass for every token of a reply, bit for bit what one pass a token gives."""

import pytest
import torch

import interp
from interp.data.tokens import EVERY, PREDICTING, Segment
from interp.taps.running import run_pass

KINDS = ["llama", "llava", "qwen2_vl", "gemma3", "gpt2"]
# grouped heads; an image; three axes of positions; norms behind the attention and sliding windows; absolute positions
SITES = {"pattern", "z", "q", "k", "v", "resid_post", "attn_scores"}


def prompt_of(model, picture, question="What is it?", reply="a cat"):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, question, response=reply)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_backward_per_token(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    once = interp.capture(model, prompt, want=SITES, grad=SITES, gradient="position")
    for index, position in enumerate(prompt.layout.positions(Segment.RESPONSE)):
        row = position - 1
        alone = interp.capture(model, prompt, want=SITES, grad=SITES, target=index, queries=PREDICTING)
        for site in SITES:
            at = (slice(None), slice(None), index) if site in {"pattern", "attn_scores"} else (slice(None), row)
            for name in (site, f"{site}_grad"):
                torch.testing.assert_close(once[name][at], alone[name][at], rtol=1e-3, atol=1e-5)
        assert bool(once.pattern_grad[:, :, index].any())


def test_the_rest_of_the_gradient_is_that_of_other_tokens(model_of, picture):
    """Where the last layers' rows are not their own token's, the two ways differ: the check above can fail."""
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    once = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, gradient="position")
    last = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=-1, queries=PREDICTING)
    assert not torch.equal(once.pattern_grad[0, :, 0], last.pattern_grad[0, :, 0])


def gradients(model, prompts, local, index=None):
    """Return the pattern's gradients of every layer for a left-padded batch: of all replies, or of one token of each."""
    kept = []
    now = model.running(
        prompts,
        reads=frozenset({("decoder", "pattern")}),
        rows=PREDICTING if local is not None else EVERY,
        gradient=True,
        local=bool(local),
    )
    taps = [block.get_submodule(model.family.attention).taps.pattern for block in model.blocks]
    handles = [t.register_forward_hook(lambda _, __, out: kept.append(out)) for t in taps]
    try:
        with torch.enable_grad(), run_pass(now):
            logits = model.module(**model.inputs(prompts), use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    loss = logits.new_zeros(())
    for row, prompt in zip(logits, prompts, strict=True):
        pad = logits.shape[1] - len(prompt)
        for n, position in enumerate(prompt.layout.positions(Segment.RESPONSE)):
            if index is None or n == index:
                loss = loss - row[pad + position - 1].log_softmax(-1)[prompt.ids[position]]
    return torch.autograd.grad(loss, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_behind_left_padding_too(kind, model_of, picture):
    model = model_of(kind)
    prompts = [prompt_of(model, picture), prompt_of(model, picture, "And what is that over there?")]
    length = max(map(len, prompts))
    once = gradients(model, prompts, local=True)
    firsts = [len(p) - len(p.response_ids) - 1 + length - len(p) for p in prompts]
    assert firsts[0] == firsts[1]  # replies of one length end at the same place
    for index in range(len(prompts[0].response_ids)):
        alone = gradients(model, prompts, local=False, index=index)
        for a, b in zip(once, alone, strict=True):
            torch.testing.assert_close(a[:, :, index], b[:, :, index], rtol=0, atol=0)


def test_padding_does_not_change_what_a_token_hangs_on(model_of, picture):
    model = model_of("llava")
    short, long = prompt_of(model, picture), prompt_of(model, picture, "And what is that over there?")
    pad = len(long) - len(short)
    padded, plain = gradients(model, [short, long], local=True), gradients(model, [short], local=True)
    for a, b in zip(padded, plain, strict=True):
        torch.testing.assert_close(a[0, ..., pad:], b[0], rtol=1e-4, atol=1e-5)


def test_a_softcap_on_the_scores_is_kept():
    """Gemma 2 caps its scores; the local rows must do so too."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from interp.families.base import family

    _, tokenizer = family("llama").tiny()
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    config = Gemma2Config(
        vocab_size=len(tokenizer), num_key_value_heads=2, attn_logit_softcapping=0.5, initializer_range=0.5, **shape
    )
    torch.manual_seed(0)
    model = interp.load(Gemma2ForCausalLM(config).eval(), processor=tokenizer)
    prompt = model.prepare(text="What is it?", response="a cat")
    once = interp.capture(model, prompt, want={"pattern", "logits"}, grad={"pattern"}, gradient="position")
    torch.testing.assert_close(once.logits, interp.capture(model, prompt, want={"logits"}).logits, rtol=1e-4, atol=1e-4)
    alone = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=0, queries=PREDICTING)
    torch.testing.assert_close(once.pattern_grad[:, :, 0], alone.pattern_grad[:, :, 0], rtol=1e-4, atol=1e-5)
