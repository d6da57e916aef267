import copy
import itertools

import pytest
import torch
from transformers import SuppressTokensLogitsProcessor

import interp
from interp.data.tokens import Segment
from interp.decoding.loop import Decoding
from interp.methods import sgrs
from interp.methods.locore import Locore
from interp.methods.sgrs import Sgrs


def test_it_conforms(tiny, conforms):
    conforms(tiny, Sgrs(), Sgrs(candidates=1), first=False)


def test_it_conforms_in_bfloat16(model_of, conforms):
    conforms(model_of("llava", torch.bfloat16), Sgrs(), first=False)


def plain_of(model):
    """Return a copy without taps, with eager attention."""
    module = type(model.module)(copy.deepcopy(model.module.config)).eval().requires_grad_(False)
    module.load_state_dict(model.module.state_dict())
    module.set_attn_implementation("eager")
    return module


def whole_pass(module, model, prompt):
    """Return logits and patterns of one pass without a cache, in one graph."""
    begin = module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    try:
        out = module(**model.inputs([prompt]), use_cache=False, output_attentions=True)
    finally:
        begin.remove()
    return out.logits[0], getattr(out, "attentions", None) or out.language_model_outputs.attentions


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
def test_cached_steps_give_the_saliency_of_a_whole_pass_for_every_candidate(model_of, answered, monkeypatch, kind):
    model, seen = model_of(kind), []

    def record(logprobs, *more):
        found = original(logprobs, *more)
        if len(logprobs) == 1:
            seen.append({float(logprobs.detach()): float(found)})
        else:
            seen[-1] |= dict(zip(logprobs.detach().tolist(), found.tolist(), strict=True))
        return found

    original = sgrs.candidate_saliency
    monkeypatch.setattr(sgrs, "candidate_saliency", record)
    image = answered(model).request.images
    prompt = model.prepare(list(image) or None, "What is there?")
    reply = interp.generate(model, prompt, Sgrs(candidates=4, alpha=1.2), max_new_tokens=5, min_new_tokens=5, seed=3)
    assert len(seen) == 4  # the first token has nothing to be salient of

    oracle, compared = plain_of(model), 0
    for step, got in enumerate(seen, 1):
        context = prompt.with_response(reply.ids[:step])
        logits, attentions = whole_pass(oracle, model, context)
        allowed = logits[-1].detach().clone()
        allowed[list(interp.decoding.generate.end_tokens(model))] = -torch.inf
        output = list(context.layout.positions(Segment.RESPONSE))
        for candidate in allowed.topk(4).indices:
            loss = torch.nn.functional.cross_entropy(logits[-1:], candidate[None])
            per_layer = []
            for attention in attentions[model.layers // 2 :]:
                (gradient,) = torch.autograd.grad(loss, attention, retain_graph=True)
                row = (attention * gradient).abs()[0].sum(0)[-1]
                per_layer.append((row / row.norm())[output].mean())
            near = [s for p, s in got.items() if abs(p + float(loss.detach())) < 1e-4]
            compared += len(near)
            for score in near:
                assert score == pytest.approx(float(torch.stack(per_layer).mean().detach()), rel=1e-3, abs=1e-5)
        assert reply.ids[step] in allowed.topk(4).indices
    assert compared == sum(map(len, seen))


def test_the_released_row_is_a_no_op():
    """The release reads the candidate's own row, which its prediction one row earlier cannot depend on."""
    torch.manual_seed(0)
    scores = torch.randn(2, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    pattern = scores.softmax(-1).requires_grad_()
    logits = (pattern @ torch.randn(5, 6)).sum(0)
    loss = -logits[-2].log_softmax(-1)[
        3
    ]  # the candidate stands at the last position and is predicted at the one before
    (gradient,) = torch.autograd.grad(loss, pattern)
    row_sums = (pattern * gradient).abs().sum((0, 2))
    assert row_sums[-1] == 0
    assert row_sums[-2] > 0


def test_the_release_is_sampling_among_the_likeliest(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    reply = interp.generate(model, prompt, Sgrs(variant="release"), max_new_tokens=6, min_new_tokens=6, seed=5)
    generator, ids = torch.Generator().manual_seed(5), []
    for _ in range(6):
        with torch.no_grad():
            whole = prompt.with_response(ids) if ids else prompt
            logits = model.module(**model.inputs([whole]), use_cache=False).logits[0, -1]
        logits[list(interp.decoding.generate.end_tokens(model))] = -torch.inf
        top = logits.softmax(-1).topk(5)
        ids.append(int(top.indices[torch.multinomial(top.values.double(), 1, generator=generator)]))
    assert reply.ids == tuple(ids)


def test_a_draw_is_kept_when_it_is_salient_enough():
    method = Sgrs(candidates=3, draws=2, alpha=0.5, window=1)
    even = [1.0, 1.0, 1.0]

    def frequent(saliency, past):
        generator = torch.Generator().manual_seed(0)
        taken = [choice(method, even, saliency, past, generator)[0] for _ in range(200)]
        return {i: taken.count(i) / 200 for i in set(taken)}

    assert set(frequent([0.1, 0.2, 0.3], [])) == {0, 1, 2}  # no history: everything is accepted
    kept = frequent([0.1, 0.2, 0.6], [9.0, 0.3, 0.5])  # threshold 0.5 · (0.3 + 0.5) / 2 = 0.2: the first is refused
    assert set(kept) == {1, 2}
    assert kept[2] == pytest.approx(0.5, abs=0.1)
    assert frequent([0.1, 0.2, 0.15], [2.0, 2.0]) == {1: 1.0}  # none is accepted: the most salient
    assert choice(method, [1.0, 0.0, 0.0], [0.0, 0.5, 0.1], [9.0], None) == (1, 0.5)  # nothing is left to draw


def choice(method, probabilities, saliency, past, generator):
    return method.choose(probabilities, lambda some: [saliency[i] for i in some], past, generator)


def test_only_what_is_needed_is_computed():
    asked = []

    def salient(some):
        asked.append(list(some))
        return [0.1 * i for i in some]

    Sgrs(candidates=3, draws=2).choose([1.0, 0.0, 0.0], salient, [], None)
    assert asked == [[0]]
    Sgrs(candidates=3, draws=2).choose([1.0, 1e-9, 1e-9], salient, [9.0], torch.Generator().manual_seed(0))
    assert asked == [[0], [0], [1, 2]]


def test_it_goes_with_locore_and_with_rules(model_of, picture):
    model = model_of("qwen2_5_vl")
    prompt = model.prepare(picture(), "What is there?")
    both = Sgrs(candidates=1) + Locore(gain=3.0)
    assert str(both).startswith("Sgrs(candidates=1, ")
    options = {"max_new_tokens": 6, "min_new_tokens": 6}
    got = interp.generate(model, prompt, both, **options)
    expected = interp.generate(model, prompt, Locore(gain=3.0), **options)
    assert got.ids == expected.ids
    torch.testing.assert_close(torch.tensor(got.logprobs), torch.tensor(expected.logprobs), rtol=1e-4, atol=1e-5)
    assert got.audit[0].largest > 0

    never = SuppressTokensLogitsProcessor(list(set(expected.ids)))
    assert not set(interp.generate(model, prompt, Sgrs(), never, **options).ids) & set(expected.ids)


def test_tokens_are_told_as_they_come_and_a_cache_is_cut_off_the_graph(model_of, picture):
    model, told = model_of("llava"), []
    prompt = model.prepare(picture(), "What is there?")
    reply = interp.generate(model, prompt, Sgrs(), max_new_tokens=4, min_new_tokens=4, on_token=told.append, seed=0)
    assert told == list(reply.tokens)
    search = Sgrs().search(Decoding(model, prompt, max_new_tokens=9, min_new_tokens=9, seed=0))
    assert len(list(itertools.islice(search.tokens(), 4))) == 4
    assert not any(layer.keys.requires_grad or layer.values.requires_grad for layer in search.text._cache.layers)


def test_several_loops_and_unknown_options_are_refused(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    with pytest.raises(ValueError, match="each have a decoding loop of their own; use only one of them"):
        Sgrs() + Sgrs(alpha=0.1)
    with pytest.raises(
        ValueError, match="it decodes by rejection sampling, without num_beams; its options are max_new_tokens"
    ):
        interp.generate(model, prompt, Sgrs(), num_beams=2)
    with pytest.raises(ValueError, match=r"target layers \[7\] do not exist: it has layers 0..1"):
        interp.generate(model, prompt, Sgrs(layers=(1, 7)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "at least one candidate and one draw, .* got 0, 3, 0.6 and 5"),
        ({"alpha": -1.0}, "alpha and window of at least 0"),
        ({"variant": "other"}, "variant is 'paper' or 'release', got 'other'"),
        ({"layers": ()}, "layers=.* leaves no target layer"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sgrs(**settings)
