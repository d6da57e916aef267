import math

import pytest
import torch
from transformers import SequenceBiasLogitsProcessor, SuppressTokensLogitsProcessor

import interp
from interp.data.tokens import Segment
from interp.methods.contrast import Contrast
from interp.methods.opera import Opera
from interp.passes.capture import capture

OPTIONS = {"max_new_tokens": 6, "min_new_tokens": 6}
NEUTRAL = Opera(beams=1, penalty=0.0, retries=0)


def asked(model, picture, text="What is there?"):
    return model.prepare(None if model.family.image_token is None else picture(), text)


def test_it_conforms(tiny, conforms):
    conforms(tiny, Opera(beams=2, candidates=3, penalty=50.0), NEUTRAL, first=False)


def test_it_conforms_in_bfloat16(model_of, conforms):
    conforms(model_of("llava", torch.bfloat16), Opera(beams=2, candidates=3, penalty=50.0), first=False)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
def test_with_every_token_a_candidate_and_no_penalty_it_is_beam_search(model_of, picture, kind):
    model = model_of(kind)
    prompt = asked(model, picture)
    every = Opera(beams=3, candidates=10**6, penalty=0.0, retries=0)
    got, expected = (
        interp.generate(model, prompt, every, **OPTIONS),
        interp.generate(model, prompt, num_beams=3, **OPTIONS),
    )
    assert got.ids == expected.ids
    torch.testing.assert_close(torch.tensor(got.logprobs), torch.tensor(expected.logprobs), rtol=1e-4, atol=1e-4)


def whole_pass(model, prompt, ids):
    """Return the logits behind a reply, and the last layer's attention among its tokens and of its last row on the image."""
    kept = capture(model, prompt.with_response(ids) if ids else prompt, want={"pattern", "logits"})
    pattern = kept.pattern[-1].amax(0)
    pattern = pattern / pattern.sum(-1, keepdim=True)
    start = len(prompt)
    return (
        kept.logits[-1],
        pattern[start:, start:],
        float(pattern[-1, prompt.layout.mask(Segment.IMAGE).nonzero()].sum()),
    )


def specials(model):
    """Return the tokens that no reply of the comparison holds: those that end it or stand for an image."""
    image = [] if model.family.image_token is None else [getattr(model.config, model.family.image_token)]
    return sorted({*model.tokenizer.all_special_ids, *interp.decoding.generate.end_tokens(model), *image})


def by_hand(model, prompt, method, new):
    """Return the reply that the release's rules give, with whole passes and a product for every column."""
    never = specials(model)
    beams = [(0.0, [])]
    for _ in range(new):
        found = []
        for total, ids in beams:
            logits = whole_pass(model, prompt, ids)[0].clone()
            logits[never] = -torch.inf
            top = logits.topk(method.candidates)
            penalised = []
            for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                _, window, image = whole_pass(model, prompt, [*ids, token])
                n = len(ids) + 1
                columns = [1e-7 * math.prod(method.scale * float(window[i, j]) for i in range(j, n)) for j in range(n)]
                penalised.append(value - method.penalty * (-image if n <= method.warm_up else max(columns)))
            scores = torch.tensor(penalised).log_softmax(-1)
            found += [(total + float(s), [*ids, t]) for s, t in zip(scores, top.indices.tolist(), strict=True)]
        beams = sorted(found, key=lambda b: -b[0])[: method.beams]
    return tuple(beams[0][1])


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
@pytest.mark.parametrize("warm_up", [2, 10])
def test_it_is_the_release_s_rules_with_whole_passes(model_of, picture, kind, warm_up):
    model = model_of(kind)
    prompt = asked(model, picture)
    method = Opera(beams=2, candidates=3, penalty=20.0 if warm_up > 2 else 1e5, retries=0, warm_up=warm_up)
    never = SuppressTokensLogitsProcessor(specials(model))
    reply = interp.generate(model, prompt, method, never, max_new_tokens=4, min_new_tokens=4)
    assert reply.ids == by_hand(model, prompt, method, 4)


def test_the_column_that_a_reply_rests_on():
    method = Opera(scale=2.0)
    window = torch.tensor([[[0.5, 0.0, 0.0], [0.4, 0.6, 0.0], [0.1, 0.7, 0.2]]])
    score, where = method.over_trust(window)
    columns = [1.0 * 0.8 * 0.2, 1.2 * 1.4, 0.4]
    assert int(where) == 1
    torch.testing.assert_close(score, torch.tensor([1e-7 * columns[1]]))
    assert math.isfinite(float(Opera(scale=1e30).over_trust(window)[0]))


def test_it_goes_back_behind_a_column_that_every_beam_rests_on():
    method = Opera(beams=2, patience=2, warm_up=1)
    assert method.rollback([(3, 3), (3, 3)]) is None  # not often enough
    assert method.rollback([(3, 3), (3, 3), (3, 3)]) == 4
    assert method.rollback([(3, 3), (3, 1), (3, 3)]) is None  # one beam does not
    assert method.rollback([(0, 0), (0, 0), (0, 0)]) is None  # too early


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "instructblip"])
def test_what_was_chosen_at_a_place_is_not_chosen_again(model_of, picture, monkeypatch, kind):
    model, back = model_of(kind), iter([None] * 3 + [2] + [None] * 20)
    prompt = asked(model, picture)
    method = Opera(beams=1, candidates=3, penalty=0.0)
    free = interp.generate(model, prompt, NEUTRAL, **OPTIONS)
    monkeypatch.setattr(Opera, "rollback", lambda self, columns: next(back))
    reply = interp.generate(model, prompt, method, **OPTIONS)
    assert reply.ids[:2] == free.ids[:2]
    logits = whole_pass(model, prompt, list(free.ids[:2]))[0].clone()
    logits[[*interp.decoding.generate.end_tokens(model), free.ids[2]]] = -torch.inf
    assert reply.ids[2] == int(logits.argmax())
    for step in range(3, 6):  # and from there on it is greedy again, behind the cache of what was kept
        logits = whole_pass(model, prompt, list(reply.ids[:step]))[0].clone()
        logits[list(interp.decoding.generate.end_tokens(model))] = -torch.inf
        assert reply.ids[step] == int(logits.argmax())


def test_it_goes_back_no_more_often_than_it_may(model_of, picture, monkeypatch):
    model = model_of("llava")
    prompt, asked_for = asked(model, picture), []

    def rollback(self, columns):
        asked_for.append(len(columns))
        return 1 if len(columns) > 3 else None

    monkeypatch.setattr(Opera, "rollback", rollback)
    reply = interp.generate(model, prompt, Opera(beams=2, candidates=4, retries=2), **OPTIONS)
    assert len(reply.ids) == 6
    assert asked_for.count(2) == 3  # once, and after each of two returns
    once = interp.generate(model, prompt, Opera(beams=2, candidates=2, retries=9), **OPTIONS)
    assert len(once.ids) == 6  # two beams of two candidates leave another choice once


def test_replies_end(model_of, picture):
    """With an end token always likely, the search ends with the best ended reply."""
    model = model_of("llava")
    prompt, (end, *_) = asked(model, picture), interp.decoding.generate.end_tokens(model)
    likely = SequenceBiasLogitsProcessor([[[end], 5.0]])
    reply = interp.generate(model, prompt, Opera(beams=2, penalty=0.0), likely, max_new_tokens=8)
    assert reply.stop == "end"
    assert reply.ids[-1] == end
    alone = interp.generate(
        model, prompt, Opera(beams=1, candidates=1), SequenceBiasLogitsProcessor([[[end], 50.0]]), max_new_tokens=8
    )
    assert alone.ids == (end,)


def test_it_goes_with_edits_and_tells_settled_tokens(model_of, picture):
    from interp.methods.locore import Locore

    model, told = model_of("qwen2_5_vl"), []
    prompt = asked(model, picture)
    got = interp.generate(model, prompt, NEUTRAL + Locore(gain=3.0), on_token=told.append, **OPTIONS)
    expected = interp.generate(model, prompt, Locore(gain=3.0), **OPTIONS)
    assert got.ids == expected.ids
    assert told == list(got.tokens)
    assert got.audit[0].largest > 0


def test_options_that_it_does_not_know_are_refused(model_of, picture):
    model = model_of("llava")
    with pytest.raises(
        ValueError, match="it decodes by a beam search of its own, without do_sample, num_beams; its options are"
    ):
        interp.generate(model, asked(model, picture), Opera(), num_beams=2, do_sample=True)
    with pytest.raises(ValueError, match="each have a decoding loop of their own"):
        Opera() + Opera()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 0}, "at least one beam and one candidate, got 0 and 5"),
        ({"candidates": 0}, "at least one beam and one candidate"),
        ({"penalty": -1.0}, "scale, penalty, patience, retries, warm_up are at least 0, got 50.0, -1.0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Opera(**settings)


def test_a_second_stream_follows_no_beams(model_of, picture):
    model = model_of("llava")
    prompt = asked(model, picture)
    with pytest.raises(
        ValueError, match=r"follows 2 beams, and contrastive decoding.s second stream follows one reply"
    ):
        interp.generate(model, prompt, Opera(beams=2) + Contrast(), **OPTIONS)
    assert interp.generate(model, prompt, Opera(beams=1) + Contrast(), **OPTIONS).ids
