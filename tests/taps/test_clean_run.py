"""Heads taken away at the step, against steps of decoding behind a cache that plain hooks never touched."""

import copy
import warnings

import pytest
import torch
from torch.testing import assert_close

import interp
from interp import Segment
from interp.analysis.saliency import Saliency
from interp.data.heads import Heads
from interp.data.tokens import EMITTING, LAST, PREDICTING, SINKS
from interp.decoding.stream import Continuation
from interp.experiments.effect import Loss, effect
from interp.interventions.attention import MaskAttention
from interp.interventions.function import Apply
from interp.interventions.heads import AblateHeads, ScaleHeads
from interp.interventions.values import MeanValues
from interp.methods.contrast import Contrast
from interp.methods.opera import Opera
from interp.methods.sgrs import Sgrs
from interp.taps.audit import NothingChanged
from interp.taps.running import running

KINDS = ["llava", "qwen2_5_vl", "internvl", "instructblip", "llama", "mistral", "gemma3", "gpt2"]
# the last four: two query heads to a key-value head; a sliding window; windows beside full attention; absolute positions
SOME = Heads(((0, 1), (1, 3)))
STEP = AblateHeads(SOME, at="step")
PLAIN = {"max_new_tokens": 6, "min_new_tokens": 6}


def prompt_of(model, picture, text="What is it?", reply=None, seed=0):
    image = None if model.family.image_token is None else picture(seed=seed)
    return model.prepare(image, text, response=reply)


def outputs(model):
    """Return what z is given to, in every layer."""
    attentions = [b.get_submodule(model.family.attention) for b in model.blocks]
    return [next(getattr(a, n) for n in ("o_proj", "c_proj", "dense") if hasattr(a, n)) for a in attentions]


class Hooked:
    """While open, plain hooks see what every layer gives to its output projection, and may change it."""

    def __init__(self, model, change):
        self.model, self.change = model, change

    def __enter__(self):
        self.handles = [
            module.register_forward_pre_hook(lambda _, args, layer=layer: (self.change(layer, args[0]),))
            for layer, module in enumerate(outputs(self.model))
        ]

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def replacement(mode, seen, layer, position):
    """Return what a mode writes in place of the heads of a layer, given what they wrote in the prompt (token, all heads)."""
    if mode == "zero":
        return torch.zeros_like(seen[layer][0])
    if mode == "mean":
        return seen[layer].mean(0)
    draw = torch.rand(position + 1, generator=torch.Generator().manual_seed(7919 * layer))[position]
    return seen[layer][int(draw * len(seen[layer]))]


def step_by_step(model, prompt, mode="zero", ids=None, interventions=(), heads=SOME, length=6):
    """Return a reply's tokens (greedy, or those given) and log-probabilities (token, vocab), one plain cached step at a time.

    Every step runs twice from the same cache: disturbed for its logits alone, and undisturbed for what is cached.
    """
    clean, seen, told, found = Continuation(model, [prompt], interventions), {}, [], []

    def look(layer, z):
        seen.setdefault(layer, z[0].clone())  # the first call is the prompt's
        return z

    def disturb(layer, z):
        changed, width = z.clone(), model.head_dim
        for head in heads.of_layer(layer):
            own = slice(head * width, (head + 1) * width)
            changed[:, -1, own] = replacement(mode, seen, layer, len(prompt) - 1 + len(told))[own]
        return changed

    def step(text):
        return text.step(torch.tensor(told[-1:])) if told else text.read()

    with torch.no_grad():
        for index in range(length if ids is None else len(ids)):
            other = Continuation(model, [prompt], interventions)
            other._cache, other._mask = copy.deepcopy(clean._cache), clean._mask
            other._own, other.now.state.step = list(clean._own), clean.now.state.step
            with Hooked(model, look):
                step(clean)
            with Hooked(model, disturb):
                found.append(step(other)[0].log_softmax(-1))
            told.append(int(found[-1].argmax()) if ids is None else ids[index])
    return tuple(told), torch.stack(found)


def forced(model, prompt, *interventions):
    """Return the log-probabilities (token, vocab) in the rows that predict a reply, of one pass."""
    logits = interp.capture(model, prompt, want={"logits"}, interventions=interventions).logits
    return logits[list(prompt.layout.positions(PREDICTING))].log_softmax(-1)


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_is_a_step_behind_a_clean_cache_in_every_row(kind, mode, model_of, picture):
    model = model_of(kind)
    prompt, reply = prompt_of(model, picture), prompt_of(model, picture, reply="a cat sat on it")
    _, wanted = step_by_step(model, prompt, mode, reply.response_ids)
    found = forced(model, reply, AblateHeads(SOME, mode, "step"))
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert float((found - forced(model, reply)).abs().max()) > 1e-3
    # with a layer above the first, what `response` does to keys and values of the reply is felt later on
    assert float((found - forced(model, reply, AblateHeads(SOME, mode, "response"))).abs()[1:].max()) > 1e-4


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_decoding_keeps_a_clean_cache(kind, mode, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    change = AblateHeads(SOME, mode, "step")
    reply = interp.generate(model, prompt, change, **PLAIN, suppress_tokens=None)
    _, wanted = step_by_step(model, prompt, mode, reply.ids)
    assert_close(
        torch.tensor(reply.logprobs), wanted.gather(-1, torch.tensor(reply.ids)[:, None])[:, 0], rtol=1e-5, atol=1e-5
    )
    assert reply.audit[0].calls == 6 * len(SOME.layers)
    assert reply.audit[0].layers == set(SOME.layers)
    uncached = interp.generate(model, prompt, change, **PLAIN, use_cache=False)
    assert uncached.ids == reply.ids
    assert_close(torch.tensor(uncached.logprobs), torch.tensor(reply.logprobs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "llama"])
@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_padding_changes_nothing(kind, mode, model_of, picture):
    model = model_of(kind)
    prompts = [prompt_of(model, picture, t, seed=i) for i, t in enumerate(("Why?", "What can be seen in this image?"))]
    change = AblateHeads(SOME, mode, "step")
    together = interp.generate(model, prompts, change, **PLAIN)
    for reply, prompt in zip(together, prompts, strict=True):
        alone = interp.generate(model, prompt, change, **PLAIN)
        assert reply.ids == alone.ids
        assert_close(torch.tensor(reply.logprobs), torch.tensor(alone.logprobs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", "llama"])
def test_beams_keep_their_own_clean_caches(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    reply = interp.generate(model, prompt, STEP, **PLAIN, num_beams=3)
    _, wanted = step_by_step(model, prompt, ids=reply.ids)
    assert_close(
        torch.tensor(reply.logprobs), wanted.gather(-1, torch.tensor(reply.ids)[:, None])[:, 0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "other",
    [
        MaskAttention(0, Segment.USER | Segment.RESPONSE),
        MaskAttention(SINKS, EMITTING, heads=SOME),
        MeanValues(Segment.USER),
        ScaleHeads(Heads(((0, 0), (1, 1))), 2.0, EMITTING),
    ],
    ids=lambda c: type(c).__name__,
)
def test_other_changes_are_in_place_in_both(other, model_of, picture):
    """What is cached is computed under the other changes, and they act on the disturbed rows too."""
    model = model_of("llava")
    prompt, reply = (prompt_of(model, picture, reply=r).marked(sink=[0, 3]) for r in (None, "a cat sat"))
    _, wanted = step_by_step(model, prompt, ids=reply.response_ids, interventions=(other,))
    for interventions in ((other, STEP), (STEP, other)):
        assert_close(forced(model, reply, *interventions), wanted, rtol=1e-5, atol=1e-5)
    again = interp.generate(model, prompt, other, STEP, **PLAIN)
    _, decoded = step_by_step(model, prompt, ids=again.ids, interventions=(other,))
    assert_close(
        torch.tensor(again.logprobs), decoded.gather(-1, torch.tensor(again.ids)[:, None])[:, 0], rtol=1e-5, atol=1e-5
    )
    assert [f.calls > 0 and f.largest > 0 for f in again.audit] == [True, True]


def test_it_enters_the_audit_once_and_warns_where_it_changes_nothing(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture, reply="a cat")
    done = effect(model, prompt, STEP, of=Loss())
    assert [(f.calls, f.layers) for f in done.audit] == [(2, {0, 1})]
    assert done.under == pytest.approx(
        -float(forced(model, prompt, STEP)[range(len(prompt.response_ids)), prompt.response_ids].mean()), rel=1e-4
    )
    still = ScaleHeads(SOME, 1.0)
    with pytest.warns(NothingChanged, match="ScaleHeads.* 2 calls left every value as it was") as told:
        interp.capture(model, prompt, interventions=(still, STEP))
    assert len(told) == 1
    dead = copy.deepcopy(model.module)
    for layer in range(2):
        dead.model.layers[layer].self_attn.v_proj.weight.data.zero_()
    silent = interp.load(dead, processor=model._again.processor)
    with pytest.warns(NothingChanged, match=r"at='step'.* changed nothing: its 2 calls left every value as it was"):
        interp.generate(silent, prompt_of(silent, picture), AblateHeads(SOME, at="step"), max_new_tokens=1)


@pytest.mark.parametrize("gradient", ["full", "position"])
def test_gradients_take_clean_keys_as_constants(gradient, model_of, picture):
    """Of the row that predicts a token they are those of its own plain step, whose cache is a constant."""
    model = model_of("qwen2_5_vl")
    prompt = prompt_of(model, picture, reply="a cat sat")
    index = 2
    target = {"target": index} if gradient == "full" else {}
    row = prompt.layout.positions(PREDICTING)[index]
    found = interp.capture(
        model,
        prompt,
        want={"pattern"},
        grad={"pattern"},
        interventions=(STEP,),
        gradient=gradient,
        queries=PREDICTING,
        **target,
    )
    shorter = prompt_of(model, picture, reply=prompt.response_ids[:index])
    last = interp.capture(
        model,
        shorter,
        grad={"pattern"},
        interventions=(AblateHeads(SOME, at="last"),),  # nothing sees the last row but itself
        target=interp.Position(len(shorter), prompt.response_ids[index]),
        queries=LAST,
    )
    assert_close(found.pattern[:, :, index, : row + 1], last.pattern[:, :, 0], rtol=1e-4, atol=1e-6)
    assert_close(found.pattern_grad[:, :, index, : row + 1], last.pattern_grad[:, :, 0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_layers_that_run_twice_give_the_same(mode, model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture, reply="a cat")
    once, twice = (
        interp.measure(
            model, prompt, Saliency(), interventions=[AblateHeads(SOME, mode, "step")], target=1, recompute=r
        )
        for r in (False, True)
    )
    assert_close(once.saliency, twice.saliency, rtol=0, atol=0)


def test_a_trace_runs_behind_clean_keys(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture, reply="a cat")
    with torch.no_grad(), model.trace(prompt, STEP):
        logits = model.seen.output.logits.save()
    assert_close(
        logits[0], interp.capture(model, prompt, want={"logits"}, interventions=(STEP,)).logits, rtol=0, atol=0
    )
    assert running.get() is None


@pytest.mark.parametrize("method", [Sgrs(candidates=1), Sgrs(draws=1), Opera(beams=1, penalty=0.0, retries=0)], ids=str)
@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
def test_decoding_loops_keep_a_clean_cache(kind, method, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    reply = interp.generate(model, prompt, STEP, method, **PLAIN, seed=0)
    _, wanted = step_by_step(model, prompt, ids=reply.ids)
    assert_close(
        torch.tensor(reply.logprobs), wanted.gather(-1, torch.tensor(reply.ids)[:, None])[:, 0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
def test_a_second_stream_keeps_one_of_its_own(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    reply = interp.generate(
        model,
        prompt,
        Contrast(lambda p: p, alpha=1.0, beta=0.0, other_interventions=(STEP,)),
        **PLAIN,
        repetition_penalty=1.0,
    )
    _, without = step_by_step(model, prompt, ids=reply.ids, heads=Heads(()))
    _, under = step_by_step(model, prompt, ids=reply.ids)
    chosen = (2 * without - under).argmax(-1).tolist()
    assert tuple(chosen) == reply.ids
    assert tuple(without.argmax(-1).tolist()) != reply.ids


def test_a_cache_that_is_written_in_place_is_refused(model_of, picture):
    model = model_of("llama")
    with pytest.raises(
        TypeError, match=r"needs a cache that is never written in place.*StaticLayer; leave cache_implementation out"
    ):
        interp.generate(model, prompt_of(model, picture), STEP, **PLAIN, cache_implementation="static")


@pytest.mark.parametrize("site", ["q", "logits"])
def test_nothing_stays_also_after_an_exception(site, model_of, picture):
    model = model_of("qwen2_5_vl")
    prompt = prompt_of(model, picture)
    before = interp.capture(model, prompt, want={"logits"}).logits
    state = [(sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.module.modules()]

    def fail(value, here):
        if here.step == 2:
            raise ArithmeticError("on purpose")
        return value

    interp.generate(model, prompt, STEP, **PLAIN)
    with pytest.raises(ArithmeticError, match="on purpose"):
        interp.generate(model, prompt, STEP, Apply(site, fail), **PLAIN)
    assert running.get() is None
    assert [
        (sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.module.modules()
    ] == state
    assert_close(interp.capture(model, prompt, want={"logits"}).logits, before, rtol=0, atol=0)


def test_rows_that_emit_nothing_are_as_they_were(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture, reply="a cat")
    emitting = prompt.layout.mask(EMITTING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, changed = (
            interp.capture(model, prompt, want={"resid_post"}, interventions=c).resid_post for c in ((), (STEP,))
        )
    assert_close(changed[:, ~emitting], plain[:, ~emitting], rtol=1e-5, atol=1e-6)
    assert (changed[0, emitting] - plain[0, emitting]).abs().amax(-1).min() > 1e-4


def test_what_is_read_is_the_disturbed_pass(model_of, picture):
    """Also what the undisturbed pass before it looks at."""
    model = model_of("llama")
    prompt = prompt_of(model, picture, reply="a cat")
    emitting = prompt.layout.mask(EMITTING)
    want = {"q", "k", "v", "z", "pattern", "resid_pre"}
    plain, changed = (interp.capture(model, prompt, want=want, interventions=c) for c in ((), (STEP,)))
    assert (changed.z[0, emitting, 1] == 0).all()
    assert (changed.z[1, emitting, 3] == 0).all()
    for site in ("k", "v", "resid_pre"):
        assert_close(changed[site][0], plain[site][0], rtol=1e-5, atol=1e-6)
        assert float((changed[site] - plain[site])[1, emitting].abs().max()) > 1e-4
    assert_close(changed.pattern.sum(-1), torch.ones(changed.pattern.shape[:-1]))
    assert float(changed.pattern.triu(1).abs().max()) == 0


def test_the_estimate_counts_the_clean_keys(model_of, picture):
    model = model_of("llama")
    prompt = prompt_of(model, picture, reply="a cat")
    plain, needs = (
        interp.capture(model, prompt, want={"resid_post"}, interventions=c, estimate=True) for c in ((), (STEP,))
    )
    held = 2 * model.layers * len(prompt) * model.kv_heads * model.head_dim * 4
    assert (needs.kept, needs.during) == (plain.kept, plain.during + held)
