import pytest
import torch

from interp.data.tokens import Segment
from interp.decoding.stream import Continuation
from interp.interventions.attention import MaskAttention
from interp.taps.running import run_pass, running

TOKENS = ((30, 41), (52, 33), (44, 60))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2", "gpt2"])
@pytest.mark.parametrize("edited", [False, True])
def test_its_steps_are_those_of_whole_passes_also_beside_a_longer_prompt(model_of, picture, kind, edited):
    model = model_of(kind)
    seen = [None, None] if model.family.image_token is None else [picture(), picture(seed=1)]
    prompts = [model.prepare(i, t) for i, t in zip(seen, ("Why?", "What can be seen in this image?"), strict=True)]
    interventions = (MaskAttention(0, Segment.USER | Segment.RESPONSE),) if edited else ()
    text = Continuation(model, prompts, interventions)
    with torch.no_grad():
        got = [text.read(), *(text.step(torch.tensor(ids)) for ids in TOKENS)]
    assert running.get() is None
    for row, prompt in enumerate(prompts):
        whole = prompt.with_response([ids[row] for ids in TOKENS])
        with torch.no_grad(), run_pass(model.running([whole], interventions)):
            logits = model.module(**model.inputs([whole]), use_cache=False).logits[0]
        for step, logit in enumerate(got):
            torch.testing.assert_close(logit[row], logits[len(prompt) - 1 + step], rtol=1e-3, atol=1e-4)


def test_two_of_them_do_not_disturb_each_other(model_of, picture):
    """Qwen's models keep the offset of their positions on a module: each stream must find its own there."""
    model = model_of("qwen2_5_vl")
    prompts = [model.prepare(picture(), "What is there?"), model.prepare(text="What is there?")]

    def alone(prompt):
        text = Continuation(model, [prompt])
        return [text.read(), *(text.step(torch.tensor([ids[0]])) for ids in TOKENS)]

    with torch.no_grad():
        expected = [alone(p) for p in prompts]
        model.module.model.rope_deltas = torch.tensor([[7]])
        texts = [Continuation(model, [p]) for p in prompts]
        got = [[t.read()] for t in texts]
        for ids in TOKENS:
            for text, logits in zip(texts, got, strict=True):
                logits.append(text.step(torch.tensor([ids[0]])))
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(torch.stack(one), torch.stack(other), rtol=0, atol=0)
    assert model.module.model.rope_deltas.tolist() == [[7]]
    model.module.model.rope_deltas = None


def test_after_an_exception_nothing_of_it_is_on_the_model(model_of, picture, monkeypatch):
    model = model_of("qwen2_5_vl")
    text = Continuation(model, [model.prepare(picture(), "What is there?")])
    model.module.model.rope_deltas = torch.tensor([[7]])
    monkeypatch.setattr(model.module.lm_head, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), torch.no_grad():
        text.read()
    monkeypatch.undo()
    assert model.module.model.rope_deltas.tolist() == [[7]]
    assert running.get() is None
    model.module.model.rope_deltas = None
