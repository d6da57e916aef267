"""What nobody reads is not computed, and what is read stays what plain transformers gives."""

import pytest
import torch

import interp
from interp.data.tokens import PREDICTING, Segment
from interp.families.base import family_names
from interp.interventions.function import Apply
from interp.passes.row_subset import restrict_rows
from interp.passes.target import loss_of
from interp.taps.running import Pass


def told(model, picture, response=" It is a cat."):
    return model.prepare(picture() if model.family.image_token else None, "What is it?", response=response)


def by_hand(model, prompt, row, token):
    """Return patterns and their gradients from transformers' eager attention alone."""
    inputs = model.inputs([prompt])
    begin = model.module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    model.module.set_attn_implementation("eager")
    try:
        with torch.enable_grad():
            out = model.module(**inputs, use_cache=False, output_attentions=True)
            loss = -out.logits[0, row].float().log_softmax(-1)[token]
            slopes = torch.autograd.grad(loss, out.attentions)
    finally:
        begin.remove()
        model.module.set_attn_implementation("interp")
    return torch.cat([a.detach() for a in out.attentions]), torch.cat(slopes)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "gemma3", "gpt2", "gpt_neox"])
def test_gradients_are_those_of_transformers(kind, recompute, model_of, picture):
    model = model_of(kind)
    prompt = told(model, picture)
    at = prompt.layout.positions(Segment.RESPONSE)[2]
    pattern, slopes = by_hand(model, prompt, at - 1, prompt.ids[at])
    seen = {}
    what = interp.passes.plan.plan(
        model, prompt, interp.passes.plan.Wanted(frozenset({"pattern"}), frozenset({"pattern"}), 2, recompute=recompute)
    )
    what.run(lambda _, layer, value, slope: seen.update({layer: (value.clone(), slope.clone())}))
    for layer, (value, slope) in seen.items():
        torch.testing.assert_close(value, pattern[layer], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(slope, slopes[layer], rtol=1e-3, atol=1e-6)
    assert set(seen) == set(range(model.layers))


@pytest.mark.parametrize("kind", family_names())
def test_what_is_wanted_beside_changes_nothing(kind, model_of, picture):
    """Where the last stream or all logits are wanted too, all rows are computed; the gradients stay the same."""
    model = model_of(kind)
    prompt = told(model, picture)
    few = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=1)
    beside = interp.capture(model, prompt, want={"pattern", "resid_post"}, grad={"pattern"}, target=1)
    whole = interp.capture(model, prompt, want={"logits", "resid_post"}, grad={"pattern", "resid_post"}, target=1)
    free = interp.capture(model, prompt, want={"resid_post", "mlp_out", "logits"})
    for other in (beside, whole):
        torch.testing.assert_close(few.pattern_grad, other.pattern_grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(beside.resid_post, free.resid_post, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.logits, free.logits, rtol=1e-4, atol=1e-5)


def test_the_last_layers_mlp_sees_only_the_rows_that_are_read(model_of, picture):
    model = model_of("llava")
    prompt, rows = told(model, picture), []
    last = model.blocks[-1].mlp.gate_proj.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[1]))
    heads = model.module.get_output_embeddings().register_forward_hook(
        lambda _, args, __: rows.append(args[0].shape[1])
    )
    reply = len(prompt.response_ids)
    try:
        for options, expected in (
            ({"grad": {"pattern"}, "target": 0}, [1, 1]),
            ({"grad": {"pattern"}, "gradient": "position"}, [reply, reply]),
            ({}, [1, 1]),
            ({"want": {"logits"}}, [len(prompt), len(prompt)]),
            ({"want": {"resid_post"}}, [len(prompt), 1]),
            ({"want": {"resid_post"}, "grad": {"pattern"}, "target": 0}, [1, len(prompt), 1]),
            ({"grad": {"pattern"}, "target": lambda logits: logits[0, 0]}, [len(prompt), len(prompt)]),
            ({"grad": {"mlp_out"}, "target": 0}, [len(prompt), 1]),
            ({"interventions": [Apply("mlp_out", lambda v, h: v * 2)]}, [len(prompt), 1]),
            ({"interventions": [Apply("logits", lambda v, h: v * 2)]}, [len(prompt), len(prompt)]),
        ):
            rows.clear()
            interp.capture(model, prompt, **options)
            assert rows == expected, options
    finally:
        last.remove(), heads.remove()


@pytest.mark.parametrize("site", ["mlp_out", "resid_post", "logits"])
def test_hooks_of_transformer_lens_see_all_rows(site, model_of, picture):
    model = model_of("llava")
    prompt, seen = told(model, picture), []
    tap = model.module.get_output_embeddings().taps if site == "logits" else getattr(model.blocks[-1].taps, site)
    tap.add_hook(lambda value, hook: seen.append(value[0].clone()))
    try:
        interp.capture(model, prompt, grad={"pattern"}, target=0)
    finally:
        tap.remove_hooks()
    whole = interp.capture(model, prompt, want={site})[site]
    torch.testing.assert_close(seen[0], whole if site == "logits" else whole[-1], rtol=1e-4, atol=1e-5)


def test_nothing_is_left_after_an_exception():
    module, hooks = torch.nn.Linear(3, 3), ("_forward_hooks", "_forward_pre_hooks")
    with pytest.raises(RuntimeError, match="stop"), restrict_rows(module, [0], values=False):
        raise RuntimeError("stop")
    assert not any(getattr(module, h) for h in hooks)


@pytest.mark.parametrize("values", [False, True])
def test_rows_are_those_of_the_whole(values):
    module, x = torch.nn.Linear(3, 3), torch.randn(1, 5, 3, requires_grad=True)
    whole = module(x)
    with restrict_rows(module, [1, 4], values=values):
        some = module(x)
    torch.testing.assert_close(some[:, [1, 4]], whole[:, [1, 4]])
    torch.testing.assert_close(some[:, [0, 2, 3]], whole[:, [0, 2, 3]] * values)
    (slope,) = torch.autograd.grad(some.sum(), x)
    assert not slope[:, [0, 2, 3]].any()
    assert slope[:, [1, 4]].all()
    assert module(x[0]).shape == (5, 3)


def test_a_module_that_says_more_than_its_output_runs_whole():
    class Experts(torch.nn.Module):
        def forward(self, x):
            return x * 2, x.mean(-1)

    x = torch.randn(1, 4, 2)
    with restrict_rows(Experts(), [0], values=False) as _:
        pass
    module = Experts()
    with restrict_rows(module, [0], values=False):
        assert module(x)[0].shape == x.shape


def test_a_module_without_a_batch_axis_works_as_ever():
    module, x = torch.nn.Linear(2, 2), torch.randn(4, 2)
    with restrict_rows(module, [0], values=False):
        torch.testing.assert_close(module(x), module(x))
        assert module(x).shape == (4, 2)
        torch.testing.assert_close(module(input=x[None]), module(x)[None])


def test_the_backward_pass_ends_where_gradients_are_first_asked_for(model_of, picture):
    model = model_of("llava")
    prompt, begun = told(model, picture), []
    visit = Pass.visit

    def noted(self, part, site, layer, value):
        out = visit(self, part, site, layer, value)
        if out.requires_grad and out.is_leaf:
            begun.append((site, layer))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pass, "visit", noted)
        interp.capture(model, prompt, grad={"pattern"}, target=0)
        assert begun == [("pattern", 0)]
        begun.clear()
        interp.capture(model, prompt, grad={"pattern", "v"}, target=0, layers=[1])
        assert begun == [("v", 1), ("pattern", 1)]


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "gpt2"])
def test_a_large_pattern_is_made_where_it_is_kept(kind, model_of, picture):
    """The arrays that are returned are those the pattern and its gradient were written into; the rest is copied into them."""
    model = model_of(kind)
    prompt, places, wanted = told(model, picture), [], []
    place = Pass.place

    def noted(self, name, part, layer, shape):
        found = place(self, name, part, layer, shape)
        if name in wanted and part == "decoder":
            places.append(None if found is None else found.data_ptr())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pass, "place", noted)
        patch.setattr("interp.taps.large.LARGE", 1)
        for grad in ((), ("pattern",)):
            places.clear()
            wanted[:] = ["pattern"]
            got = interp.capture(model, prompt, grad=grad, target=0 if grad else None)
            assert places == [p.data_ptr() for p in got.pattern]
        places.clear()
        wanted[:] = ["pattern_grad"]
        again = interp.capture(model, prompt, grad={"pattern"}, target=0)
        assert places == [p.data_ptr() for p in again.pattern_grad]
        row = prompt.layout.positions(Segment.RESPONSE)[0] - 1
        for mine, theirs in zip(
            (again.pattern, again.pattern_grad), by_hand(model, prompt, row, prompt.ids[row + 1]), strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
        wanted[:] = ["pattern"]
        places.clear()
        edited = interp.capture(model, prompt, interventions=[Apply("pattern", lambda v, h: v / 2)])
        assert set(places) == {None}
    torch.testing.assert_close(edited.pattern[0], got.pattern[0] / 2)
    half = interp.capture(model, prompt, dtype=torch.float16)
    torch.testing.assert_close(half.pattern.float(), got.pattern, rtol=1e-2, atol=1e-3)


def test_a_loss_reads_its_own_rows(model_of, picture):
    prompt = told(model_of("llava"), picture)
    first = prompt.layout.positions(Segment.RESPONSE)[0]
    assert loss_of(prompt, 0, local=False).rows == (first - 1,)
    assert loss_of(prompt, None, local=True).rows == prompt.layout.positions(PREDICTING)
    assert loss_of(prompt, lambda logits: logits.sum(), local=False).rows is None


@pytest.mark.parametrize("recompute", [False, True])
def test_only_rows_that_gradients_come_from_are_part_of_the_graph(recompute, model_of, picture):
    """With each token's own gradient, projections and MLPs keep what their predicting rows need and no more."""
    model = model_of("llava")
    prompt, rows = told(model, picture), []
    reply, kinds = len(prompt.response_ids), (frozenset({"z"}), frozenset({"z"}))
    handles = [
        block.get_submodule(path).register_forward_hook(
            lambda _, args, out: rows.append(args[0].shape[1]) if out.requires_grad else None
        )
        for block in model.blocks
        for path in ("mlp.gate_proj", "self_attn.q_proj", "self_attn.o_proj")
    ]
    what = interp.passes.plan.plan(
        model,
        prompt,
        interp.passes.plan.Wanted(*kinds, None, gradient="position", recompute=recompute, queries=PREDICTING),
    )
    try:
        what.run(lambda *_: None)
    finally:
        for handle in handles:
            handle.remove()
    assert set(rows) == {reply}
    assert len(rows) == 3 * model.layers - (0 if recompute else 1)  # the graph begins behind the first layer's queries
