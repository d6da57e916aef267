"""With and without the image, on models."""

import pytest
import torch

import interp
from interp.data.tokens import Segment
from interp.experiments.similarity import similarity
from interp.interventions.attention import MaskAttention


def test_it_is_the_cosine_of_two_plain_captures(model_of, picture) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a small cat")
    result = similarity(model, prompt)
    one, other = (interp.capture(model, p).pattern for p in (prompt, prompt.without(Segment.IMAGE)))
    n = len(prompt.response_ids)
    a, b = (x[..., -n:, -n:].flatten(2) for x in (one, other))
    torch.testing.assert_close(
        result.similarity, torch.nn.functional.cosine_similarity(a, b, dim=-1), rtol=1e-4, atol=1e-5
    )
    assert bool((result.similarity < 1 - 1e-6).any())
    assert result.words == tuple(prompt.tokens[-n:])


def test_prompts_and_models_to_compare_with(model_of, picture) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a cat")
    same = similarity(model, prompt, alone=prompt)
    torch.testing.assert_close(same.similarity, torch.ones_like(same.similarity))
    hidden = similarity(
        model, prompt, alone=prompt, interventions=[MaskAttention(Segment.USER, queries=Segment.RESPONSE)]
    )
    assert bool((hidden.similarity < 1 - 1e-6).any())
    placed = model.prepare(text="image: What is this?", response=prompt.response_ids)
    assert similarity(model, prompt, alone=placed).similarity.shape == (model.layers, model.heads)
    other = interp.families.base.family("llava").tiny()
    twin = interp.load(other[0], processor=other[1])
    shared = similarity(
        model, prompt, alone=twin.prepare(picture(), "What is this?", response=prompt.response_ids), language_model=twin
    )
    assert shared.similarity.shape == same.similarity.shape


def test_a_prompt_made_from_tensors_keeps_its_reply_once(model_of, picture) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "So?", response="a cat")
    tensors = model.prepare(inputs=dict(model.prepare(picture(), "So?").inputs)).with_response(prompt.response_ids)
    alone = tensors.without(Segment.IMAGE)
    assert alone.response_ids == prompt.response_ids
    assert len(alone) == len(prompt) - int(prompt.layout.mask(Segment.IMAGE).sum())


def test_what_cannot_be_compared_is_refused(model_of, picture) -> None:
    model = model_of("llava")
    with pytest.raises(ValueError, match=r"within a reply: prompt.with_response\(reply\)"):
        similarity(model, model.prepare(picture(), "What is this?"))
    with pytest.raises(ValueError, match="no image to leave out"):
        similarity(model, model.prepare(text="What is this?", response="a cat"))
    with pytest.raises(ValueError, match="another language model needs its own prompt"):
        similarity(model, model.prepare(picture(), "What?", response="a cat"), language_model=model_of("llama"))
