import functools
import re

import pytest
import torch
from transformers import LogitsProcessor
from transformers.generation import MinLengthLogitsProcessor, NoRepeatNGramLogitsProcessor

import interp
from interp.data.tokens import EMITTING, EVERY, Segment
from interp.families.base import family, family_names
from interp.interventions.attention import MaskAttention, ScalePattern, ScaleScores
from interp.interventions.function import Apply
from interp.interventions.values import ZeroValues
from interp.passes.capture import capture
from interp.taps.audit import NothingChanged
from interp.taps.running import running

TEXTS = ("Why?", "What can be seen in this image, and where is it?")


@functools.cache
def plain(kind):
    """Return a family's tiny model without taps."""
    return family(kind).tiny()[0]


def question(model, picture, text=TEXTS[1], seed=0):
    return model.prepare(None if model.family.image_token is None else picture(seed=seed), text)


@pytest.fixture
def llava(model_of, picture):
    model = model_of("llava")
    return model, question(model, picture)


class Ban(LogitsProcessor):
    """Never let one token be generated."""

    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.token] = -torch.inf
        return scores


# --------------------------------------------------------------------------------------------- equal to plain transformers


@pytest.mark.parametrize("kind", family_names())
def test_greedy_replies_are_those_of_plain_transformers(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture)
    with torch.no_grad():
        out = plain(kind).generate(
            **model.inputs([prompt]),
            max_new_tokens=6,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    scores = plain(kind).compute_transition_scores(out.sequences, out.logits, normalize_logits=True)
    reply = interp.generate(model, prompt, max_new_tokens=6)
    expected = out.sequences[0, -scores.shape[1] :]
    assert list(reply.ids) == expected.tolist()
    torch.testing.assert_close(torch.tensor(reply.logprobs), scores[0].float(), rtol=1e-4, atol=1e-5)
    assert reply.text == model.tokenizer.decode(expected, skip_special_tokens=True).strip() == str(reply)
    assert len(reply.tokens) == len(reply.ids) == len(reply.logprobs)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "temperature": 0.8, "top_p": 0.9},
        {"do_sample": True, "num_return_sequences": 3},
        {"repetition_penalty": 1.3},
        {"min_new_tokens": 6},
    ],
    ids=str,
)
def test_every_way_of_decoding_is_that_of_plain_transformers(llava, options):
    model, prompt = llava
    torch.manual_seed(7)
    with torch.no_grad():
        out = plain("llava").generate(**model.inputs([prompt]), max_new_tokens=6, **{"do_sample": False, **options})
    replies = interp.generate(model, prompt, max_new_tokens=6, seed=7, **options)
    replies = replies if isinstance(replies, list) else [replies]
    assert len(replies) == options.get("num_return_sequences", 1)
    for row, reply in zip(out, replies, strict=True):
        assert list(reply.ids) == row[len(prompt) :][: len(reply.ids)].tolist()
        assert all(p <= 0 for p in reply.logprobs)


def test_logprobs_are_those_of_the_model_before_sampling_bounds(llava):
    model, prompt = llava
    banned = interp.generate(model, prompt, max_new_tokens=1).ids[0]
    reply = interp.generate(
        model, prompt, Ban(banned), max_new_tokens=4, do_sample=True, temperature=0.3, top_k=5, seed=3, min_new_tokens=4
    )
    logits = capture(model, prompt.with_response(reply), want={"logits"}).logits
    forced = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(reply.logprobs), forced, rtol=1e-4, atol=1e-4)


def test_the_seed_decides_and_leaves_the_stream_of_random_numbers_alone(llava):
    model, prompt = llava
    state = torch.get_rng_state()
    options = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    first, again, other = (interp.generate(model, prompt, seed=s, **options).ids for s in (1, 1, 2))
    assert first == again != other
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("kind", family_names())
@pytest.mark.parametrize("edited", [False, True])
def test_a_batch_of_different_lengths_is_each_alone(model_of, picture, kind, edited):
    model = model_of(kind)
    prompts = [question(model, picture, text, seed=i) for i, text in enumerate(TEXTS)]
    interventions = [ScaleScores(0, 3.0, queries=EMITTING, mode="abs")] if edited else []
    together = interp.generate(model, prompts, *interventions, max_new_tokens=5)
    for prompt, reply in zip(prompts, together, strict=True):
        alone = interp.generate(model, prompt, *interventions, max_new_tokens=5)
        assert reply.ids == alone.ids
        torch.testing.assert_close(torch.tensor(reply.logprobs), torch.tensor(alone.logprobs), rtol=1e-3, atol=1e-3)
        assert reply.prompt is prompt
        assert len(reply.layout) == len(prompt) + len(reply.ids)


def test_several_sequences_of_several_prompts_come_in_order(model_of, picture):
    model = model_of("llava")
    prompts = [question(model, picture, text) for text in TEXTS]
    replies = interp.generate(model, prompts, num_beams=2, num_return_sequences=2, max_new_tokens=3)
    assert [r.prompt for r in replies] == [prompts[0], prompts[0], prompts[1], prompts[1]]


def test_beams_in_a_batch_keep_their_own_roles(model_of, picture):
    model = model_of("llava")
    prompts = [question(model, picture, text) for text in TEXTS]
    change = ScaleScores(Segment.IMAGE, 3.0, queries=EMITTING)
    together = interp.generate(model, prompts, change, num_beams=2, max_new_tokens=4)
    for prompt, reply in zip(prompts, together, strict=True):
        assert reply.ids == interp.generate(model, prompt, change, num_beams=2, max_new_tokens=4).ids


# ---------------------------------------------------------------------------------------------------------------- stopping


def test_the_end_token_ends_a_reply(llava):
    model, prompt = llava
    end = model.module.generation_config.eos_token_id

    def always_end(value, here):
        value = value.clone()
        if here.step >= 2:
            value[..., end] = 1e4
        return value

    reply = interp.generate(model, prompt, Apply("logits", always_end), max_new_tokens=9)
    assert (len(reply.ids), reply.ids[-1], reply.stop) == (3, end, "end")
    assert model.tokenizer.decode([end]) not in reply.text
    assert reply.tokens[-1] == model.tokenizer.decode([end])


def test_the_length_ends_a_reply(llava):
    model, prompt = llava
    reply = interp.generate(model, prompt, max_new_tokens=3, min_new_tokens=3)
    assert (len(reply.ids), reply.stop) == (3, "length")


def test_a_stop_string_ends_a_reply(llava):
    model, prompt = llava
    free = interp.generate(model, prompt, Ban(2), max_new_tokens=12)
    word = next(t for t in free.tokens[2:] if t.isascii() and t.isprintable())
    reply = interp.generate(model, prompt, Ban(2), max_new_tokens=12, stop_strings=[word])
    assert reply.stop == "stop_string"
    assert reply.tokens[-1] == word
    assert reply.ids == free.ids[: len(reply.ids)]


def test_a_neighbour_that_goes_on_longer_leaves_no_padding_in_a_reply(model_of, picture):
    model = model_of("llava")
    prompts = [question(model, picture, text) for text in TEXTS]
    end = model.module.generation_config.eos_token_id

    def end_the_first(value, here):
        value = value.clone()
        value[0, :, end] = 1e4
        value[1, :, end] = -1e4
        return value

    short, long = interp.generate(model, prompts, Apply("logits", end_the_first), max_new_tokens=5)
    assert (short.ids, short.stop) == ((end,), "end")
    assert (len(long.ids), long.stop) == (5, "length")


# --------------------------------------------------------------------------------------------------------------- callbacks


def test_every_new_token_is_handed_over_as_it_comes(llava):
    model, prompt = llava
    heard = []
    reply = interp.generate(model, prompt, max_new_tokens=5, on_token=heard.append)
    assert tuple(heard) == reply.tokens


def test_logits_processors_apply_in_order(llava):
    model, prompt = llava
    banned = interp.generate(model, prompt, max_new_tokens=1).ids[0]
    reply = interp.generate(model, prompt, Ban(banned), NoRepeatNGramLogitsProcessor(1), max_new_tokens=5)
    assert banned not in reply.ids
    assert len(set(reply.ids)) == len(reply.ids)
    assert interp.generate(model, prompt, MinLengthLogitsProcessor(len(prompt) + 4, 2), max_new_tokens=5).ids


# ------------------------------------------------------------------------------------------------------------ interventions

CHANGES = {
    "scores of the rows that emit": ScaleScores(0, 3.0, queries=EMITTING, mode="abs"),
    "pattern after the image": ScalePattern(Segment.IMAGE, 2.5, queries=Segment.USER | Segment.RESPONSE),
    "no look back at the image": MaskAttention(Segment.IMAGE, queries=EMITTING),
    "no system prompt": MaskAttention(Segment.SYSTEM),
    "empty image": ZeroValues(Segment.IMAGE),
    "empty reply": ZeroValues(Segment.RESPONSE),
    "stream": Apply("resid_post", lambda value, here: torch.where(here.emitting, value * 1.5, value), layers=[0]),
    "z": Apply("z", lambda value, here: torch.where(here.queries(EMITTING), value * 0, value), layers=[1]),
    "keys": Apply("k", lambda value, here: torch.where(here.keys(Segment.IMAGE), value * 2, value)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "internvl"])
def test_cached_decoding_is_one_teacher_forced_pass(model_of, picture, kind, name):
    model, change = model_of(kind), CHANGES[name]
    prompt = question(model, picture)
    reply = interp.generate(model, prompt, change, max_new_tokens=5, min_new_tokens=5)
    logits = capture(model, prompt.with_response(reply), want={"logits"}, interventions=[change]).logits
    forced = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(reply.logprobs), forced, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", [n for n in CHANGES if n != "empty reply"])
def test_the_first_token_is_under_the_change_already(llava, name):
    model, prompt = llava
    free = interp.generate(model, prompt, max_new_tokens=1)
    edited = interp.generate(model, prompt, CHANGES[name], max_new_tokens=1)
    assert abs(edited.logprobs[0] - free.logprobs[0]) > 1e-5 or edited.ids != free.ids


def test_the_audit_comes_with_the_reply(llava):
    model, prompt = llava
    reply = interp.generate(
        model, prompt, ScalePattern(Segment.IMAGE, 2.0, layers=[1]), max_new_tokens=4, min_new_tokens=4
    )
    (fired,) = reply.audit
    assert (fired.calls, fired.layers) == (4, {1})
    assert fired.largest > 0
    assert fired.row_sum > 0


def test_here_counts_the_steps(llava):
    model, prompt = llava
    steps = []

    def look(value, here):
        steps.append((here.step, here.rows.tolist(), here.key_span))
        return value * 0.9

    interp.generate(
        model, prompt, Apply("pattern", look, layers=[0], queries=EMITTING), max_new_tokens=3, min_new_tokens=3
    )
    n = len(prompt)
    assert steps == [(0, [n - 1], (0, n)), (1, [n], (0, n + 1)), (2, [n + 1], (0, n + 2))]


def test_a_change_that_does_nothing_is_warned_of(llava):
    model, prompt = llava
    with pytest.warns(NothingChanged, match=r"ZeroValues\(.*RESPONSE.*changed nothing"):
        interp.generate(model, prompt, ZeroValues(Segment.RESPONSE), max_new_tokens=1)
    assert running.get() is None


# ------------------------------------------------------------------------------------------------------------------ errors


def test_no_prompt_is_refused(model_of):
    with pytest.raises(ValueError, match="generate needs at least one prompt"):
        interp.generate(model_of("llava"), [])


@pytest.mark.parametrize(
    "option", ["output_logits", "return_dict_in_generate", "streamer", "logits_processor", "generator"]
)
def test_options_that_generate_sets_itself_are_refused(llava, option):
    with pytest.raises(ValueError, match=option):
        interp.generate(*llava, **{option: True})


def test_streaming_is_for_one_prompt_without_beams(llava):
    model, prompt = llava
    for prompts, options in (([prompt, prompt], {}), (prompt, {"num_beams": 2})):
        with pytest.raises(
            ValueError, match="on_token streams one prompt without beams; leave it out for a batch or for beam search"
        ):
            interp.generate(model, prompts, on_token=print, **options)


def test_a_reply_that_does_not_fit_is_refused(llava):
    model, prompt = llava
    room = model.context - len(prompt)
    message = (
        rf"the prompt has {len(prompt)} tokens and {room + 1} new ones are requested, but the context of .* holds "
        rf"{model.context}; ask for at most {room} \(max_new_tokens\)"
    )
    with pytest.raises(ValueError, match=message):
        interp.generate(model, prompt, max_new_tokens=room + 1)


@pytest.mark.usefixtures("unchecked")
def test_something_that_is_no_change_is_refused(llava):
    model, prompt = llava
    with pytest.raises(
        TypeError, match=r"interventions: expected interventions, methods or names of methods, got int 3"
    ):
        interp.generate(model, prompt, 3)
    change = MaskAttention(Segment.IMAGE, layers=[99])
    with pytest.raises(
        ValueError, match=re.escape(f"{change} names layers [99], but the decoder of {model.name} has layers 0..1")
    ):
        interp.generate(model, prompt, change)
    with pytest.raises(ValueError, match=r"positions .500. are outside this conversation"):
        interp.generate(model, prompt, MaskAttention([500], queries=EVERY))
