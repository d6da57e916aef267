import itertools

import pytest
import torch

import interp
from interp.methods.halc import Halc, jensen_shannon

OPTIONS = {"max_new_tokens": 6, "min_new_tokens": 6}


def stand_in(**settings):
    """Return the method with stand-ins: every word is a noun, it is in the middle, and what is longer matches better."""
    given = {
        "detect": lambda image, noun: (10.0, 10.0, 20.0, 25.0),
        "score": lambda image, text: float(len(text)),
        "is_noun": lambda text, word: True,
    }
    return Halc(**{**given, **settings})


def asked(model, picture):
    return model.prepare(picture(), "What is there?")


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
def test_without_a_noun_or_a_box_it_is_greedy(model_of, picture, kind):
    model = model_of(kind)
    prompt = asked(model, picture)
    free = interp.generate(model, prompt, **OPTIONS)
    for idle in (stand_in(is_noun=lambda text, word: False), stand_in(detect=lambda image, noun: None)):
        got = interp.generate(model, prompt, idle, **OPTIONS)
        assert got.ids == free.ids
        torch.testing.assert_close(torch.tensor(got.logprobs), torch.tensor(free.logprobs), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
def test_the_word_that_matches_the_image_best_is_kept(model_of, picture, kind):
    model, texts, later = model_of(kind), [], itertools.count()
    prompt = asked(model, picture)
    free = interp.generate(model, prompt, **OPTIONS)

    def score(image, text):
        texts.append(text)
        return float(next(later))  # what is scored last wins: a word that the crops gave

    reply = interp.generate(model, prompt, stand_in(score=score, alpha=0.99, beta=0.01), **OPTIONS)
    assert len(reply.ids) == 6
    assert len(set(texts)) > 1
    assert reply.ids != free.ids
    with torch.no_grad():  # the log-probabilities are the model's own, of the tokens that were kept
        whole = prompt.with_response(reply.ids)
        said = model.module(**model.inputs([whole]), use_cache=False).logits[0].log_softmax(-1)
    rows = torch.arange(len(prompt) - 1, len(whole) - 1)
    torch.testing.assert_close(said[rows, list(reply.ids)], torch.tensor(reply.logprobs), rtol=1e-4, atol=2e-4)


def test_the_boxes_grow_around_what_was_found_and_stay_in_the_image():
    boxes = Halc(views=3, expand=0.5).boxes((10.0, 20.0, 30.0, 40.0), (60, 45))
    assert boxes == [(10, 20, 30, 40), (5, 15, 35, 45), (0, 7.5, 42.5, 45)]


def test_the_most_different_crops_give_a_token_in_each_direction():
    seen = torch.tensor([[4.0, 0.0, 1.0, 0.0], [4.0, 0.5, 1.0, 0.0], [0.0, 4.0, 0.0, 0.0]]).log_softmax(-1)
    assert jensen_shannon(seen[0], seen[2]) > jensen_shannon(seen[0], seen[1]) > 0
    assert jensen_shannon(seen[0], seen[0]) == pytest.approx(0, abs=1e-6)
    assert set(Halc(buffer=2).first_tokens(seen)) == {0, 1}
    close = torch.tensor([[2.0, 1.9, 0.0], [2.0, -9.0, 0.0]]).log_softmax(-1)
    assert Halc(buffer=2, alpha=0.05).first_tokens(close) == [1, 0]  # what the other crop does not say counts more
    assert Halc(buffer=2, alpha=0.05, beta=0.95).first_tokens(close) == [0]  # but must be plausible


def test_without_the_three_it_says_what_to_install(model_of, picture):
    model = model_of("llava")
    with pytest.raises(
        ValueError, match=r"it needs detect, score, is_noun, which interp does not include: .*pip install spacy"
    ):
        interp.generate(model, asked(model, picture), Halc())
    assert "it needs score, which" in stand_in(score=None).refusal(model)
    assert "this is a language model" in stand_in().refusal(model_of("qwen2"))
    assert "never with real ones" in Halc.__doc__


def test_what_it_does_not_fit(model_of, picture):
    model = model_of("llava")
    with pytest.raises(
        ValueError,
        match="it decodes by greedy decoding with corrected nouns, without num_beams; its options are",
    ):
        interp.generate(model, asked(model, picture), stand_in(), num_beams=2)
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[0\] have none"):
        interp.generate(model, model.prepare(text="What is there?"), stand_in())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 1}, "at least two views and a buffer of at least two"),
        ({"expand": 0.0}, "an expansion above 0"),
        ({"alpha": -1.0}, "alpha is at least 0"),
        ({"beta": 0.0}, r"beta a share in \(0, 1\]"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Halc(**settings)
