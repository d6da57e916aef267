import pytest
import torch
from torch import nn

import interp
from interp.analysis.sensitivity import Erasure, FirstOrder, HeadAttribution, agreement
from interp.data.heads import Heads
from interp.data.tokens import PREDICTING
from interp.experiments.erasure import erase_heads
from interp.interventions.heads import AblateHeads

KINDS = ["llama", "llava", "qwen2_vl", "gpt2", "mistral"]
# two query heads to a key-value head; an image; three axes of positions; absolute positions; a sliding window


def prompt_of(model, picture, reply="a cat"):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, "What is it?", response=reply)


def log_probability(model, prompt, layer, head, token, rows):
    """Return ln p(token) after the prompt, with a plain hook that zeroes what one head gives to the output projection."""
    attention = model.blocks[layer].get_submodule(model.family.attention)
    output = next(getattr(attention, n) for n in ("o_proj", "c_proj", "dense") if hasattr(attention, n))

    def zero(_, args):
        changed = args[0].clone()
        changed[:, rows, head * model.head_dim : (head + 1) * model.head_dim] = 0
        return (changed,)

    handle = output.register_forward_pre_hook(zero)
    try:
        with torch.no_grad():
            return model.module(**model.inputs([prompt]), use_cache=False).logits[0].log_softmax(-1)[:, token]
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_at_step_it_is_one_forward_per_token_with_the_last_row_erased(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    heads = [(0, 0), (0, 3), (1, 2)]
    found = erase_heads(model, prompt, heads=heads)
    ids = prompt.response_ids
    for index in (0, 1, len(ids) - 1):
        shorter = prompt_of(model, picture, reply=ids[:index] or None)
        for layer, head in heads:
            wanted = log_probability(model, shorter, layer, head, ids[index], slice(-1, None))[-1]
            torch.testing.assert_close(found.erased[layer, head, index], wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", [*KINDS, "qwen3_vl", "gemma3", "gpt_neox", "paligemma"])
def test_at_all_it_is_one_hooked_forward_per_head(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = erase_heads(model, prompt, at="all")
    rows = list(prompt.layout.positions(PREDICTING))
    told = torch.tensor(prompt.response_ids)
    for layer in range(model.layers):
        for head in range(model.heads):
            wanted = log_probability(model, prompt, layer, head, told, slice(None))[rows, torch.arange(len(rows))]
            torch.testing.assert_close(found.erased[layer, head], wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", [*KINDS, "qwen2_5_vl", "internvl", "instructblip", "gemma3", "paligemma"])
def test_at_step_it_is_what_an_ablation_at_the_step_does(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    heads = Heads(((0, 0), (0, 3), (1, 2)))
    found = erase_heads(model, prompt, heads=heads)
    rows, told = list(prompt.layout.positions(PREDICTING)), torch.tensor(prompt.response_ids)[:, None]
    for layer, head in heads:
        change = AblateHeads(Heads(((layer, head),)), at="step")
        logits = interp.capture(model, prompt, want={"logits"}, interventions=(change,)).logits
        same = logits[rows].log_softmax(-1).gather(-1, told)[:, 0]
        torch.testing.assert_close(same, found.erased[layer, head], rtol=1e-5, atol=1e-5)


def test_the_two_questions_have_two_answers(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    step, everywhere = (erase_heads(model, prompt, at=at).change("log_probability") for at in ("step", "all"))
    assert float((step - everywhere)[0].abs().max()) > 1e-3
    # nothing is above the last layer: there the row that predicts sees the head's own erasure alone
    torch.testing.assert_close(step[-1], everywhere[-1], rtol=1e-4, atol=2e-5)


def test_clean_is_what_the_model_says(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    logits = interp.capture(model, prompt, want={"logits"}).logits
    rows = list(prompt.layout.positions(PREDICTING))
    wanted = logits[rows].log_softmax(-1).gather(-1, torch.tensor(prompt.response_ids)[:, None])[:, 0]
    for at in ("step", "all"):
        found = erase_heads(model, prompt, at=at, heads=[(0, 0)])
        torch.testing.assert_close(found.clean, wanted, rtol=1e-5, atol=1e-5)
        assert found.at == at
        assert found.reply == tuple(prompt.tokens[p] for p in found.positions)


@pytest.mark.parametrize("at", ["step", "all"])
def test_tiles_and_choices_of_heads_do_not_matter(at, model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    whole = erase_heads(model, prompt, at=at)
    one = erase_heads(model, prompt, at=at, tile=1, progress=True)
    torch.testing.assert_close(one.erased, whole.erased, rtol=1e-5, atol=1e-5)
    some = erase_heads(model, prompt, at=at, heads=Heads(((1, 3), (0, 1))))
    assert int(some.erased.isfinite().all(-1).sum()) == 2
    torch.testing.assert_close(some.erased[1, 3], whole.erased[1, 3], rtol=1e-5, atol=1e-5)


def test_a_head_that_gives_nothing_is_not_missed(picture):
    from interp.families.base import family

    module, processor = family("llama").tiny()
    model = interp.load(module, processor=processor)
    output: nn.Linear = model.blocks[0].self_attn.o_proj
    with torch.no_grad():
        output.weight[:, model.head_dim : 2 * model.head_dim] = 0
    prompt = model.prepare(text="What is it?", response="a cat")
    for at in ("step", "all"):
        change = erase_heads(model, prompt, at=at).change()
        torch.testing.assert_close(change[0, 1], torch.zeros(change.shape[-1]), rtol=0, atol=1e-6)
        assert float(change[0, 0].abs().max()) > 1e-5


def test_nothing_is_left_on_the_model(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    hooks = lambda: sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())  # noqa: E731
    before, logits = hooks(), interp.capture(model, prompt, want={"logits"}).logits
    erase_heads(model, prompt, heads=[(0, 0)])
    assert hooks() == before
    torch.testing.assert_close(interp.capture(model, prompt, want={"logits"}).logits, logits, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["llama", "qwen2_vl"])
def test_the_first_order_estimate_is_the_slope_of_step_erasure(kind, model_of, picture):
    """Shrink one head by a little instead of erasing it: the change per unit is the estimate."""
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, HeadAttribution())
    ids, eps = prompt.response_ids, 1e-2
    from interp.interventions.function import Apply

    for index, (layer, head) in ((0, (0, 1)), (2, (1, 3))):
        shorter = prompt_of(model, picture, reply=ids[:index] or None)

        def shrink(z, here, by, head=head):
            scale = torch.ones(1, z.shape[1], z.shape[2], 1)
            scale[:, -1, head] = by
            return z * scale

        def told(by, shrink=shrink, layer=layer, index=index, shorter=shorter):
            change = Apply("z", lambda z, here: shrink(z, here, by), layers=(layer,))
            logits = interp.capture(model, shorter, want={"logits"}, interventions=(change,)).logits
            return float(logits[-1].double().log_softmax(-1)[ids[index]])

        slope = (told(1 + eps) - told(1 - eps)) / (2 * eps)
        assert float(found.effect[layer, head, index]) == pytest.approx(slope, rel=2e-2, abs=2e-4)


def test_the_estimate_agrees_with_the_exact_change(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    exact, estimate = erase_heads(model, prompt), interp.measure(model, prompt, HeadAttribution())
    found = agreement(exact, estimate)
    assert tuple(found) == exact.positions
    assert sum(found.values()) / len(found) > 0.5  # random weights: far from the linear range, yet better than chance
    torch.testing.assert_close(estimate.change(exact), estimate.effect * exact.clean.exp())
    other = FirstOrder(estimate.effect[..., :-1], estimate.layers, estimate.positions[:-1])
    with pytest.raises(ValueError, match="take both from the same prompt"):
        agreement(exact, other)


def test_results_can_be_saved(model_of, picture, tmp_path):
    model = model_of("llama")
    found = erase_heads(model, prompt_of(model, picture), heads=[(0, 0)])
    again = Erasure.load(found.save(tmp_path / "e.safetensors"))
    torch.testing.assert_close(again.erased, found.erased, equal_nan=True)
    assert (again.reply, again.positions, again.at) == (found.reply, found.positions, "step")


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_erased_is_refused(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture)
    with pytest.raises(ValueError, match="needs a teacher-forced reply"):
        erase_heads(model, model.prepare(text="What is it?"))
    with pytest.raises(ValueError, match="at is 'step' or 'all', got 'once'"):
        erase_heads(model, prompt, at="once")
    with pytest.raises(ValueError, match="no head was given"):
        erase_heads(model, prompt, heads=[])
    with pytest.raises(ValueError, match=r"heads \[\(2, 0\)\] are not there: .* has 2 layers of 4 heads"):
        erase_heads(model, prompt, heads=[(0, 0), (2, 0)])


def test_a_decoder_that_does_more_than_its_layers_is_refused(picture):
    from interp.families.base import family

    module, processor = family("llama").tiny()
    model = interp.load(module, processor=processor)
    module.lm_head.register_forward_hook(lambda _, __, out: out * 0.5 if out.shape[1] > 20 else out)
    with pytest.raises(RuntimeError, match="its decoder does more between or after its layers"):
        erase_heads(model, model.prepare(text="What is it?", response="a cat"))
