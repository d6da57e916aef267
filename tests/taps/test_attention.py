"""What the taps show and change, against plain transformers: every oracle here is a model that has no taps."""

import copy
import functools

import pytest
import torch

import interp
from interp.analysis.base import on_capture
from interp.analysis.empirical import EmpiricalPropagation
from interp.analysis.sinks import Sinks
from interp.data.heads import Heads
from interp.data.sites import SITES as SITES_IN_ORDER
from interp.data.tokens import EMITTING, EVERY, LAST, Segment
from interp.decoding.generate import generate
from interp.families.base import family, family_names
from interp.interventions.attention import MaskAttention, ScalePattern, ScaleScores
from interp.interventions.function import Apply
from interp.interventions.heads import AblateHeads
from interp.interventions.values import ZeroValues
from interp.passes.capture import capture
from interp.taps import attention, eager, large
from interp.taps.audit import NothingChanged
from interp.taps.install import attends
from interp.taps.points import Tap
from interp.taps.running import Pass, run_pass, running

KINDS = ["llava", "qwen2_vl", "gemma3", "gpt2", "gpt_neox", "mistral", "qwen3", "instructblip"]
GROUPED = ["qwen2_vl", "gemma3", "qwen3"]
SITES = ("attn_scores", "pattern")


@functools.cache
def plain(kind, implementation="eager"):
    """Return a family's tiny model without taps."""
    module = family(kind).tiny()[0].requires_grad_(False)
    module.set_attn_implementation(implementation)
    return module


def question(model, picture, text="What is this?", response=None):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, text, response=response)


def forward(model, prompts, *interventions, **settings):
    """Return the logits of one pass over a batch."""
    with torch.no_grad(), run_pass(model.running(prompts, interventions, **settings)):
        return model.module(**model.inputs(prompts), use_cache=False).logits


def looking(*parts):
    return frozenset((part, site) for part in parts or ("decoder",) for site in SITES)


# -------------------------------------------------------------------------------------------- equal to plain transformers


@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_every_tap_gives_the_logits_of_eager_attention_bit_for_bit(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture)
    wanted = looking("decoder", "vision", "qformer", "cross") | {("decoder", s) for s in model.sites}
    expected = plain(kind)(**model.inputs([prompt]), use_cache=False).logits
    torch.testing.assert_close(forward(model, [prompt], reads=wanted), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_nothing_gives_the_logits_of_sdpa_bit_for_bit(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture)
    expected = plain(kind, "sdpa")(**model.inputs([prompt]), use_cache=False).logits
    torch.testing.assert_close(forward(model, [prompt]), expected, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(
            model.module(**model.inputs([prompt]), use_cache=False).logits, expected, rtol=0, atol=0
        )


def test_an_unwatched_model_never_computes_attention_explicitly(model_of, picture, monkeypatch):

    def refuse(*args):
        raise AssertionError("explicit attention")

    monkeypatch.setattr(eager.EagerRows, "attend", refuse)
    model = model_of("llava")
    prompt = question(model, picture)
    forward(model, [prompt], reads=frozenset({("decoder", "z"), ("decoder", "resid_post")}))
    with pytest.raises(AssertionError, match="explicit attention"):
        forward(model, [prompt], reads=looking())


def test_one_function_chooses_the_path(model_of, picture, monkeypatch):
    model, taken = model_of("llama"), []
    prompt, choose = question(model, picture, response="a cat"), attention.choose_path

    def noted(call):
        path, rows = choose(call)
        taken.append((path.__name__, rows is None))
        return path, rows

    monkeypatch.setattr(attention, "choose_path", noted)
    for path, every, options in (
        ("fast", False, {"want": {"z"}}),
        ("whole", True, {"want": {"pattern"}}),
        ("some_rows", False, {"want": {"pattern"}, "queries": LAST}),
        ("own_key", False, {"grad": {"pattern"}, "gradient": "position"}),
        ("own_key", True, {"want": {"z"}, "interventions": [AblateHeads(Heads(((0, 1),)), at="step")]}),
    ):
        taken.clear()
        capture(model, prompt, **options)
        assert set(taken[-model.layers :]) == {(path, every)}, options


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_and_gradients_are_those_of_output_attentions_and_autograd(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture, response="A chair")
    target = prompt.layout.positions(Segment.RESPONSE)[2]
    got = capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=2)

    oracle = plain(kind)
    begin = oracle.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    try:
        out = oracle(**model.inputs([prompt]), use_cache=False, output_attentions=True)
    finally:
        begin.remove()
    loss = torch.nn.functional.cross_entropy(out.logits[0, target - 1].float(), prompt.inputs["input_ids"][0, target])
    attentions = getattr(out, "attentions", None) or out.language_model_outputs.attentions
    gradients = torch.autograd.grad(loss, attentions)
    torch.testing.assert_close(got.pattern, torch.cat(attentions), rtol=1e-5, atol=1e-6)
    expected = torch.cat(gradients)
    assert float(expected.abs().max()) > 1e-4
    torch.testing.assert_close(got.pattern_grad, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()) + 1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_adds_up_and_is_that_of_output_hidden_states(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture)
    got = capture(model, prompt, want=set(model.sites))
    torch.testing.assert_close(got.resid_pre[1:], got.resid_post[:-1], rtol=0, atol=0)
    middle = got.resid_pre + got.attn_out
    torch.testing.assert_close(got.resid_post, middle + got.mlp_out, rtol=1e-4, atol=1e-5)
    if "resid_mid" in model.sites:
        torch.testing.assert_close(got.resid_mid, middle, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        out = plain(kind)(**model.inputs([prompt]), use_cache=False, output_hidden_states=True)
    states = getattr(out, "hidden_states", None) or out.language_model_outputs.hidden_states
    torch.testing.assert_close(got.resid_pre, torch.cat(states[: model.layers]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.logits, out.logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_q_times_k_and_z_is_pattern_times_v(model_of, picture, kind):
    model = model_of(kind)
    got = capture(model, question(model, picture), want={"q", "k", "v", "attn_scores", "pattern", "z"})
    group = model.heads // model.kv_heads
    k, v = (x.repeat_interleave(group, 2) for x in (got.k, got.v))
    scores = torch.einsum("lqhd,lkhd->lhqk", got.q, k)
    scale = (got.attn_scores / scores).nanmedian()  # the one number a family is free to choose
    torch.testing.assert_close(got.attn_scores, scores * scale, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got.z, torch.einsum("lhqk,lkhd->lqhd", got.pattern, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(family_names()))
def test_every_site_and_every_attention_has_its_tap(model_of, kind):
    model = model_of(kind)
    names = [m.name for m in model.module.modules() if isinstance(m, Tap)]
    assert len(names) == len(set(names))
    expected = {
        f"blocks.{i}.hook_{s}"
        for i in range(model.layers)
        for s in model.sites
        if s in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    }
    expected |= {
        f"blocks.{i}.attn.hook_{s}" for i in range(model.layers) for s in ("q", "k", "v", "attn_scores", "pattern", "z")
    }
    assert {n for n in names if n.startswith("blocks.")} == expected
    assert names.count("hook_logits") == 1
    for path, module in model.module.named_modules():
        if attends(module):
            assert (module.taps.part == "decoder") == path.startswith(model.family.decoder + ".")


# ----------------------------------------------------------------------------------------------------------- some rows only


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        None,
        ScaleScores(0, 1.7, queries=LAST),
        MaskAttention(Segment.USER, queries=EMITTING),
        ScalePattern(1, 0.2, queries=[2, -1]),
    ],
    ids=["none", "scale", "mask", "pattern"],
)
def test_computing_some_rows_equals_computing_all_of_them_also_under_left_padding(model_of, picture, kind, change):
    model = model_of(kind)
    prompts = [question(model, picture, text, response="It is") for text in ("Why?", "What can be seen in this image?")]
    interventions = [] if change is None else [change]
    some = forward(model, prompts, *interventions, reads=looking(), rows=EMITTING)
    whole = forward(model, prompts, *interventions, reads=looking(), rows=EVERY)
    for row, other, prompt in zip(some, whole, prompts, strict=True):
        torch.testing.assert_close(row[-len(prompt) :], other[-len(prompt) :], rtol=1e-4, atol=1e-5)
    for i, prompt in enumerate(prompts):
        alone = forward(model, [prompt], *interventions, reads=looking(), rows=EMITTING)
        torch.testing.assert_close(some[i, -len(prompt) :], alone[0], rtol=1e-3, atol=1e-4)


def test_the_rows_that_are_kept_are_the_rows_of_the_whole_pattern(model_of, picture):
    model = model_of("qwen2_vl")
    prompt = question(model, picture, response="A chair")
    some, whole = (capture(model, prompt, want=set(SITES), queries=q) for q in (EMITTING, EVERY))
    rows = list(prompt.layout.positions(EMITTING))
    assert some.queries == tuple(rows)
    for site in SITES:
        torch.testing.assert_close(some[site], whole[site][:, :, rows], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- grouped-query attention


@pytest.mark.parametrize("kind", GROUPED)
def test_editing_one_query_head_s_z_changes_its_slice_of_the_projection_s_input_alone(model_of, picture, kind):
    model = model_of(kind)
    prompt, head = question(model, picture), 2
    projection, seen = model.blocks[0].get_submodule(model.family.attention).o_proj, []
    handle = projection.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))

    def silence(value, here):
        changed = value.clone()
        changed[:, :, head] = 0
        return changed

    try:
        forward(model, [prompt])
        forward(model, [prompt], Apply("z", silence, layers=[0]))
    finally:
        handle.remove()
    before, after = (x[0].view(len(prompt), model.heads, model.head_dim) for x in seen)
    others = [h for h in range(model.heads) if h != head]
    assert (after[:, head] == 0).all()
    assert (before[:, head] != 0).any()
    torch.testing.assert_close(after[:, others], before[:, others], rtol=0, atol=0)


@pytest.mark.parametrize("kind", GROUPED)
def test_query_head_h_reads_key_value_head_h_over_group(model_of, picture, kind):
    model = model_of(kind)
    prompt, group = question(model, picture), model.heads // model.kv_heads
    assert group > 1
    clean = capture(model, prompt, want={"attn_scores", "z"}, layers=[0])
    for site, seen in (("k", "attn_scores"), ("v", "z")):
        for kv in range(model.kv_heads):

            def silence(value, here, kv=kv):
                changed = value.clone()
                changed[:, :, kv] = 0
                return changed

            edited = capture(
                model, prompt, want={"attn_scores", "z"}, layers=[0], interventions=[Apply(site, silence, layers=[0])]
            )
            moved = (edited[seen][0] - clean[seen][0]).abs()
            moved = moved.amax((1, 2)) if seen == "attn_scores" else moved.amax((0, 2))
            assert moved.nonzero().flatten().tolist() == [h for h in range(model.heads) if h // group == kv]


# --------------------------------------------------------------------------------------------------- position-local gradient


@pytest.mark.parametrize(
    "kind", ["llava", "qwen2_vl", "gpt2", "gpt_neox", "mistral", "qwen3", "gemma3", "instructblip", "blip_2"]
)
def test_one_local_backward_is_one_backward_for_every_token(model_of, picture, kind):
    model = model_of(kind)
    prompt = question(model, picture, response="A red chair")
    sites = ("pattern", "attn_scores", "z", "q", "resid_post", "resid_pre")
    local = capture(model, prompt, want={"pattern"}, grad=set(sites), gradient="position")
    response = prompt.layout.positions(Segment.RESPONSE)
    assert local.queries == tuple(p - 1 for p in response)
    for i, position in enumerate(response):
        single = capture(model, prompt, want={"pattern"}, grad=set(sites), target=i)
        for site in sites:
            many, one = local[f"{site}_grad"], single[f"{site}_grad"]
            many, one = (
                (many[:, :, i], one[:, :, position - 1])
                if site in SITES
                else (many[:, position - 1], one[:, position - 1])
            )
            torch.testing.assert_close(
                many, one, rtol=1e-3, atol=1e-5 * float(one.abs().max()) + 1e-9, msg=lambda m, s=site: f"{s}: {m}"
            )


def test_a_prompt_read_in_both_directions_has_no_local_gradient(model_of, picture):
    model = model_of("paligemma")
    prompt = question(model, picture, response="A red chair")
    with pytest.raises(
        ValueError, match=r"lets earlier tokens of the prompt see its last one, .*gradient='full' with target=0, 1"
    ):
        capture(model, prompt, grad={"pattern"}, gradient="position")


def test_the_local_pass_computes_what_the_ordinary_one_does(model_of, picture):
    model = model_of("qwen2_vl")
    prompt = question(model, picture, response="A red chair")
    kept = {"pattern", "z", "resid_post", "logits"}
    local = capture(model, prompt, want=kept, grad={"pattern"}, gradient="position")
    full = capture(model, prompt, want=kept, queries=local.queries)
    for site in kept:
        torch.testing.assert_close(local[site], full[site], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- TransformerLens


def test_hook_functions_of_transformer_lens_read_change_and_leave(model_of, picture):
    model = model_of("qwen2_vl")
    prompt = question(model, picture)
    inputs, seen = model.inputs([prompt]), {}
    before = forward(model, [prompt])
    tap = model.blocks[1].self_attn.taps.pattern

    def read(value, hook):
        seen[hook.name] = value.detach().clone()

    def silence(value, hook):
        return value * 0

    tap.add_hook(read)
    tap.add_hook(silence)
    with torch.no_grad():
        changed = model.module(**inputs, use_cache=False).logits
    tap.remove_hooks()
    assert list(seen) == ["blocks.1.attn.hook_pattern"]
    torch.testing.assert_close(
        seen["blocks.1.attn.hook_pattern"], capture(model, prompt).pattern[1:2], rtol=1e-5, atol=1e-6
    )
    assert (changed - before).abs().max() > 1e-4
    torch.testing.assert_close(forward(model, [prompt]), before, rtol=0, atol=0)


def test_backward_hooks_of_transformer_lens_see_the_gradient(model_of, picture):
    model = model_of("llava")
    prompt = question(model, picture, response="It")
    tap, seen = model.blocks[0].self_attn.taps.pattern, []
    tap.add_hook(lambda grad, hook: seen.append(grad.detach().clone()), dir="bwd")
    expected = capture(model, prompt, want=set(), grad={"pattern"}, target=0)
    tap.remove_hooks("bwd")
    torch.testing.assert_close(seen[0], expected.pattern_grad[:1], rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------------- nothing left behind


def state_of(model):
    """Return everything a pass could leave on a model; nnsight marks what it has seen once and for all."""
    assert model.seen is not None
    hooks = [
        (name, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
        for name, m in model.module.named_modules()
    ]
    return (
        hooks,
        [(p.requires_grad, p.grad is None) for p in model.module.parameters()],
        model.config._attn_implementation,
        sorted(vars(model.module)),
    )


def run_traced(model, prompt, change):
    """Run a change inside nnsight's trace."""
    with model.trace(prompt, change):
        model.seen.output.save()


WAYS = {
    "forward": lambda model, prompt, change: forward(model, [prompt], change),
    "gradient": lambda model, prompt, change: capture(
        model, prompt, grad={"pattern"}, target=0, interventions=[change]
    ),
    "generate": lambda model, prompt, change: interp.generate(model, prompt, change, max_new_tokens=2),
    "trace": run_traced,
}


@pytest.mark.parametrize("site", SITES_IN_ORDER)
@pytest.mark.parametrize("way", WAYS)
def test_a_pass_that_fails_at_any_site_leaves_nothing_behind(model_of, picture, site, way):
    model = model_of("llava")
    prompt = question(model, picture, response="It")
    before, state = forward(model, [prompt]), state_of(model)

    def fail(value, here):
        raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError, match="on purpose"):
        WAYS[way](model, prompt, Apply(site, fail))
    assert running.get() is None
    assert state_of(model) == state
    torch.testing.assert_close(forward(model, [prompt]), before, rtol=0, atol=0)


def test_a_loss_that_fails_leaves_nothing_behind(model_of, picture):
    model = model_of("llava")
    prompt = question(model, picture, response="It")
    state = state_of(model)

    def fail(logits):
        raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError, match="on purpose"):
        capture(model, prompt, grad={"pattern"}, target=fail)
    assert running.get() is None
    assert state_of(model) == state


def test_a_pass_inside_a_pass_does_not_see_its_changes(model_of, picture):
    model = model_of("llava")
    prompt, inside = question(model, picture), []
    clean = forward(model, [prompt])

    def look_aside(value, here):
        if here.layer == 0:
            inside.append(forward(model, [prompt]))
        return value * 0.5

    outer = forward(model, [prompt], Apply("pattern", look_aside))
    torch.testing.assert_close(inside[0], clean, rtol=0, atol=0)
    again = forward(model, [prompt], Apply("pattern", lambda value, here: value * 0.5))
    torch.testing.assert_close(outer, again, rtol=0, atol=0)
    assert (outer - clean).abs().max() > 1e-4


# ---------------------------------------------------------------------------------------------------------- nnsight's own trace


def test_a_trace_reads_taps_and_edits_through_them_act(model_of, picture):
    model = model_of("llava")
    prompt = question(model, picture)
    layers = model.seen.model.language_model.layers
    kept = capture(model, prompt, want={"pattern", "resid_post", "logits"})
    with torch.no_grad(), model.trace(prompt):
        pattern = layers[1].self_attn.taps.pattern.output.save()
        stream = layers[1].taps.resid_post.output.save()
        logits = model.seen.output.logits.save()
    torch.testing.assert_close(pattern[0], kept.pattern[1], rtol=0, atol=0)
    torch.testing.assert_close(stream[0], kept.resid_post[1], rtol=0, atol=0)
    torch.testing.assert_close(logits[0], kept.logits, rtol=0, atol=0)
    with torch.no_grad(), model.trace(prompt):
        layers[0].self_attn.taps.pattern.output[:] = 0
        edited = model.seen.output.logits.save()
    expected = forward(model, [prompt], Apply("pattern", lambda value, here: value * 0, layers=[0]))
    torch.testing.assert_close(edited, expected, rtol=1e-5, atol=1e-6)
    assert (edited[0] - kept.logits).abs().max() > 1e-4


def test_changes_act_inside_a_trace_and_end_with_it(model_of, picture):
    model = model_of("llava")
    prompt = question(model, picture)
    clean = forward(model, [prompt])
    change = ScalePattern(Segment.IMAGE, 0.2)
    with torch.no_grad(), model.trace(prompt, change):
        first = model.seen.model.language_model.layers[0].taps.resid_pre.output.save()
        edited = model.seen.output.logits.save()
    torch.testing.assert_close(edited, forward(model, [prompt], change, reads=looking()), rtol=0, atol=0)
    assert first.shape == (1, len(prompt), model.dim)
    assert running.get() is None
    torch.testing.assert_close(forward(model, [prompt]), clean, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------------------- causality

EDITS = [
    MaskAttention(Segment.USER),
    MaskAttention(EVERY),
    MaskAttention(EVERY, queries=LAST),
    ScaleScores(EVERY, 3.0),
    ScaleScores(EVERY, -2.0),
    ScaleScores(EVERY, 2.0, mode="abs", queries=EMITTING),
    ScalePattern(EVERY, 4.0),
    ScalePattern(Segment.USER, 0.0, renormalize="row"),
    ZeroValues(Segment.USER),
]


@pytest.mark.parametrize("change", EDITS, ids=str)
@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "gpt2", "mistral"])
def test_nothing_attends_to_the_future_under_any_change(model_of, picture, kind, change):
    model = model_of(kind)
    prompt = question(model, picture, response="It is")
    got = capture(model, prompt, want={"pattern", "logits"}, interventions=[change])
    ahead = torch.ones(len(prompt), len(prompt)).triu(1).bool()
    assert (got.pattern[:, :, ahead] == 0).all()
    assert got.pattern.isfinite().all()
    assert got.logits.isfinite().all()
    later = model.prepare(None if model.family.image_token is None else picture(), "What is this?", response="It XX")
    other = capture(model, later, want={"logits"}, interventions=[change])
    if "last" not in str(change) and "emitting" not in str(change):
        torch.testing.assert_close(got.logits[:-2], other.logits[:-2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masking_every_key_leaves_an_even_row_over_what_is_visible(model_of, picture, dtype):
    model = model_of("llava", dtype)
    prompt = question(model, picture)
    for interventions in ([MaskAttention(EVERY)], [MaskAttention(EVERY, queries=LAST)]):
        pattern = capture(model, prompt, interventions=interventions).pattern.float()
        n = len(prompt)
        torch.testing.assert_close(pattern[:, :, -1], torch.full_like(pattern[:, :, -1], 1 / n), rtol=1e-2, atol=0)
    pattern = capture(model, prompt, interventions=[MaskAttention(EVERY)]).pattern.float()
    torch.testing.assert_close(pattern[0, 0, 4, :5], torch.full((5,), 0.2), rtol=1e-2, atol=0)


def test_masking_every_key_under_left_padding_stays_within_the_conversation(model_of, picture):
    model = model_of("llava")
    prompts = [question(model, picture, text) for text in ("Why?", "What can be seen in this image?")]
    together = forward(model, prompts, MaskAttention(EVERY))
    for row, prompt in zip(together, prompts, strict=True):
        alone = forward(model, [prompt], MaskAttention(EVERY))
        torch.testing.assert_close(row[-len(prompt) :], alone[0], rtol=1e-3, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------------- refusal


def test_every_intervention_is_warned_of_when_neutral(model_of, picture):
    model = model_of("llava")
    with pytest.warns(
        NothingChanged, match=r"ScaleScores\(.*by=1\) changed nothing: its 2 calls left every value as it was"
    ):
        forward(model, [question(model, picture)], ScaleScores(EVERY, 1.0))


# ------------------------------------------------------------------------------------------------------- only while one listens


def listened(model):
    """Return how many hooks of ours the streams have."""
    hooks = (h for m in model.module.modules() for d in (m._forward_hooks, m._forward_pre_hooks) for h in d.values())
    return sum(h.__module__ == "interp.taps.residual" for h in hooks)


def test_streams_have_no_hook_unless_somebody_looks(model_of, picture):
    model = model_of("llava")
    prompt, seen = question(model, picture), []
    double = Apply("resid_mid", lambda value, here: seen.append(listened(model)) or value * 2, layers=[1])
    assert listened(model) == 0
    capture(model, prompt, want={"resid_post"}, interventions=[double], layers=[0])
    assert seen == [2]
    generate(model, prompt, double, max_new_tokens=3)
    assert set(seen[1:]) == {1}
    assert listened(model) == 0


def test_one_hook_serves_two_passes_and_goes_with_the_last(model_of, picture):
    model = model_of("llava")
    prompt, seen = question(model, picture), []
    looking = Apply("mlp_out", lambda value, here: seen.append(here.layer) or value * 1.5, layers=[0])
    with torch.no_grad(), run_pass(model.running([prompt], [looking])):
        with run_pass(model.running([prompt], [looking])):
            model.module(**model.inputs([prompt]))
            assert listened(model) == 1
        assert listened(model) == 1
        assert seen == [0]
        model.module(**model.inputs([prompt]))
    assert listened(model) == 0
    assert seen == [0, 0]


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_hooks_of_transformer_lens_on_a_stream_listen_without_a_pass(site, model_of, picture):
    model = model_of("llava")
    prompt, seen = question(model, picture), []
    tap = getattr(model.blocks[1].taps, site)
    tap.add_hook(lambda value, hook: seen.append(value.clone()))
    tap.add_hook(lambda value, hook: None)
    try:
        with torch.no_grad():
            model.module(**model.inputs([prompt]))
    finally:
        tap.remove_hooks()
    expected = capture(model, prompt, want={site}, layers=[1])[site]
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)
    assert listened(model) == 0
    tap.remove_hooks()
    assert listened(model) == 0


def test_a_copy_of_a_model_listens_to_itself(model_of, picture):
    model = model_of("llava")
    other = interp.load(copy.deepcopy(model.module), processor=model.processor)
    prompt, double = question(model, picture), Apply("resid_post", lambda value, here: value * 2, layers=[0])
    plain = capture(model, prompt, want={"logits"}).logits
    with torch.no_grad(), run_pass(other.running([prompt], [double])):
        assert (listened(model), listened(other)) == (0, 1)
        other.module(**other.inputs([prompt]))
    changed = capture(other, prompt, want={"logits"}, interventions=[double]).logits
    assert (changed - plain).abs().max() > 1e-4


# ------------------------------------------------------------------------------------------------------ the place of the scores


def places(monkeypatch, watch):
    """Return, for each layer, whether its pattern was made in the place of the scores that were shown."""
    seen = {}
    visit = Pass.visit

    def watched(self, part, site, layer, value):
        after = visit(self, part, site, layer, value)
        if part == "decoder" and site in SITES:
            seen[layer, site] = after.data_ptr()
        return after

    monkeypatch.setattr("interp.taps.large.LARGE", 1)
    monkeypatch.setattr(Pass, "visit", watched)
    watch()
    return [seen[i, "attn_scores"] == seen[i, "pattern"] for i in sorted({layer for layer, _ in seen})]


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_the_pattern_is_made_in_place_of_scores_that_the_verb_has_copied(model_of, picture, monkeypatch, kind):
    model = model_of(kind)
    prompt = question(model, picture, response="a cat")
    apart = capture(model, prompt, want=set(SITES))
    found = {}
    shared = places(monkeypatch, lambda: found.update(one=capture(model, prompt, want=set(SITES))))
    assert shared == [True] * model.layers
    for site in SITES:
        torch.testing.assert_close(found["one"][site], apart[site], rtol=1e-6, atol=1e-6)
    assert bool((found["one"].attn_scores > -1e4).all())  # no mask was added to them
    kinds = EmpiricalPropagation(queries=EVERY), Sinks()
    for one, kind_ in zip(interp.measure(model, prompt, *kinds), kinds, strict=True):
        again = on_capture(kind_, capture(model, prompt, want={*SITES, "resid_post"}))
        for name in type(one).axes():
            torch.testing.assert_close(getattr(one, name), getattr(again, name), rtol=1e-6, atol=1e-6)


def test_scores_that_somebody_else_holds_stay_as_they_are(model_of, picture, monkeypatch):
    model = model_of("llava")
    prompt = question(model, picture, response="a cat")
    change = ScaleScores(Segment.IMAGE, 1.3)
    ways = (
        lambda: capture(model, prompt, want=set(SITES), interventions=[change]),  # the audit compares before and after
        lambda: capture(model, prompt, want=set(SITES), grad={"attn_scores"}, target=0),
        lambda: forward(model, [prompt], reads=looking()),
    )
    for way in ways:
        found = []
        with monkeypatch.context() as patched:
            assert places(patched, lambda way=way, found=found: found.append(way())) == [False] * model.layers
        if isinstance(found[0], interp.Capture):
            assert bool((found[0].attn_scores > -1e4).all())  # no mask was added to them


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_the_gradient_of_a_large_pattern_s_scores_is_taken_head_by_head(model_of, picture, monkeypatch, kind):
    """The same gradients as through all scores at once, on to queries, keys and what is below."""
    model = model_of(kind)
    prompt = question(model, picture, response="a cat")
    sites = {"pattern", "q", "k", "v", "z", "resid_pre"}
    once = functools.partial(capture, model, prompt, want=sites, grad=sites, target=1)
    whole = once()
    monkeypatch.setattr("interp.taps.large.LARGE", 1)
    called = []
    backward = large.LargePattern.backward
    monkeypatch.setattr(large.LargePattern, "backward", lambda *args: called.append(1) or backward(*args))
    found = once()
    assert len(called) == model.layers
    for site in sites:
        for name in (site, f"{site}_grad"):
            torch.testing.assert_close(found[name], whole[name], rtol=1e-4, atol=1e-6)
    once(want={*sites, "attn_scores"})
    assert len(called) == model.layers  # scores that are read have a gradient of their own
