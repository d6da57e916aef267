"""Layers that run twice: the numbers of the whole graph, bit for bit, and the memory of one layer."""

import functools
import gc
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from interp.analysis.budget import Budget
from interp.analysis.saliency import ResponseSaliency, Saliency
from interp.analysis.sinks import Sinks
from interp.data.heads import Heads
from interp.data.tokens import EMITTING, EVERY, Segment
from interp.families.base import family_names
from interp.interventions.attention import ScalePattern, ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.interventions.heads import AblateHeads, ScaleQueries
from interp.interventions.stream import SetDims
from interp.interventions.values import MeanValues
from interp.methods.clva import Clva
from interp.passes import memory
from interp.passes.checkpointing import LayersApart, RepetitionError
from interp.passes.measure import measure
from interp.passes.plan import Plan, Wanted, plan
from interp.taps.audit import NothingChanged
from interp.taps.running import Pass


def prompt_of(model, picture):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, "What is it?", response="a cat")


def arrays(what: Plan) -> dict:
    """Return everything a plan hands over, by site and layer."""
    found = {}

    def take(site, layer, value, slope):
        assert (site, layer) not in found
        found[site, layer] = value.clone(), None if slope is None else slope.clone()

    logits, _ = what.run(take)
    return {**found, "logits": (logits, None)}


def assert_equal(one: dict, other: dict, *, close: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for place, found in one.items():
        for a, b in zip(found, other[place], strict=True):
            assert (a is None) == (b is None), place
            if a is not None:
                torch.testing.assert_close(a, b, rtol=close, atol=close / 10, msg=lambda m, p=place: f"{p}: {m}")


def settled(model, prompt, gradient, interventions=(), values=None, graded=None, **more) -> Plan:
    sites = frozenset(model.sites) - {"logits"}
    target = 1 if gradient == "full" else None
    want = Wanted(values or sites, graded or sites, target, EVERY, None, gradient, True)
    return plan(model, prompt, replace(want, **more), interventions)


@pytest.mark.parametrize("gradient", ["full", "position"])
@pytest.mark.parametrize("kind", family_names())
def test_the_numbers_are_those_of_the_whole_graph_bit_for_bit(model_of, picture, kind, gradient):
    model = model_of(kind)
    if gradient == "position" and model.family.response_type:
        pytest.skip("its prompt sees ahead")
    twice = settled(model, prompt_of(model, picture), gradient)
    assert twice.twice
    assert_equal(arrays(twice), arrays(replace(twice, recompute=False)))


@pytest.mark.parametrize("layers", [(1,), (0, 2)], ids=str)
def test_layers_rows_and_sites_can_be_chosen(model_of, picture, layers):
    model = model_of("qwen3_vl")
    chosen = {"values": frozenset({"z", "resid_post"}), "graded": frozenset({"pattern", "resid_pre"})}
    twice = settled(model, prompt_of(model, picture), "full", **chosen, layers=layers, queries=EMITTING)
    found = arrays(twice)
    assert {layer for _, layer in set(found) - {"logits"}} == set(layers)
    assert_equal(found, arrays(replace(twice, recompute=False)), close=1e-4)


HEADS = Heads(((0, 1), (1, 2)))
CHANGES = {
    "pattern": ScalePattern(Segment.IMAGE, 1.3),
    "scores": ScaleScores(Segment.IMAGE, 1.3, queries=EMITTING, layers=(1,)),
    "values": MeanValues(Segment.IMAGE),
    "mean heads": AblateHeads(HEADS, "mean"),
    "drawn heads": AblateHeads(HEADS, "resample"),
    "queries": ScaleQueries(((1.1,) * 4, (0.9,) * 4)),
    "stream": SetDims(Segment.IMAGE, (3,), "mean"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("gradient", ["full", "position"])
def test_changes_act_as_in_the_whole_graph(model_of, picture, gradient, change):
    """Also those whose value hangs on the layer's own through what they keep: gradients go through it."""
    model = model_of("qwen2_vl")
    twice = settled(model, prompt_of(model, picture), gradient, (CHANGES[change],))
    assert_equal(arrays(twice), arrays(replace(twice, recompute=False)))


def test_a_change_enters_the_audit_once(model_of, picture, monkeypatch):
    seen: list[Pass] = []
    close = Pass.close
    monkeypatch.setattr(Pass, "close", lambda self: seen.append(self) or close(self))
    model = model_of("llava")
    twice = settled(model, prompt_of(model, picture), "full", (ScalePattern(Segment.IMAGE, 1.3),))
    for what in (twice, replace(twice, recompute=False)):
        arrays(what)
    one, other = (now.audit[0] for now in seen)
    assert one.calls == other.calls == model.layers
    assert one.layers == other.layers
    assert (one.largest, one.mean, one.row_sum) == (other.largest, other.mean, other.row_sum)


def test_a_change_without_effect_is_still_told(model_of, picture):
    model = model_of("llava")
    with pytest.warns(NothingChanged, match="2 calls left every value as it was"):
        arrays(settled(model, prompt_of(model, picture), "full", (ScalePattern(Segment.IMAGE, 1.0),)))


# ------------------------------------------------------------------------------------------------------------- when it cannot


def test_anchors_that_go_from_layer_to_layer_need_the_whole_graph(model_of, picture):
    model = model_of("qwen3_vl")
    prompt, change = prompt_of(model, picture), Clva(middle=1)
    with pytest.raises(
        ValueError, match=r"recompute=True is not possible: an intervention keeps something from one layer for another"
    ):
        measure(model, prompt, Saliency(), interventions=[change], target=0, recompute=True)
    whole = measure(model, prompt, Saliency(), interventions=[change], target=0, recompute=False)
    by_itself = measure(model, prompt, Saliency(), interventions=[change], target=0)
    torch.testing.assert_close(by_itself.saliency, whole.saliency, rtol=0, atol=0)


def test_it_falls_back_to_the_whole_graph_where_it_must(model_of, picture, monkeypatch):
    monkeypatch.setattr("interp.passes.plan.WHOLE_GRAPH", 0)
    model = model_of("qwen3_vl")
    prompt, change = prompt_of(model, picture), Clva(middle=1)
    whole = measure(model, prompt, Saliency(), interventions=[change], target=0, recompute=False)
    torch.testing.assert_close(
        measure(model, prompt, Saliency(), interventions=[change], target=0).saliency, whole.saliency, rtol=0, atol=0
    )


@pytest.mark.parametrize("draw", ["own generator", "torch"])
def test_noise_is_drawn_once_by_default_and_refused_where_layers_shall_run_twice(model_of, picture, draw):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    generator, calls = torch.Generator(), []

    def noisy(value, here):
        calls.append(here.layer)
        drawn = torch.rand(value.shape, generator=generator if draw == "own generator" else None)
        return value * (1 + 0.1 * drawn)

    change = Apply("z", noisy)
    with pytest.raises(
        ValueError, match="layer 1 came out differently when it ran once more: an intervention draws random numbers"
    ):
        measure(model, prompt, Saliency(), interventions=[change], target=0, recompute=True)
    calls.clear()
    measure(model, prompt, Saliency(), interventions=[change], target=0)
    assert calls == [0, 1]


@dataclass(frozen=True)
class Noise(Intervention):
    """A change that holds a generator."""

    generator: torch.Generator
    site: ClassVar[str] = "z"

    def __call__(self, value, here):
        """Add noise."""
        return value + torch.rand(value.shape, generator=self.generator)


def test_what_may_not_do_the_same_twice_is_not_run_twice_by_itself(model_of, picture, monkeypatch):
    monkeypatch.setattr("interp.passes.plan.WHOLE_GRAPH", 0)
    model = model_of("llava")
    settle = functools.partial(settled, model, prompt_of(model, picture), "full", recompute=None)
    assert settle((ScalePattern(Segment.IMAGE, 1.3),)).twice
    for change in (Noise(torch.Generator()), Apply("z", lambda value, here: value)):
        assert not settle((change,)).twice


def test_a_layer_that_is_given_more_than_the_stream_is_refused(model_of, picture):
    model = model_of("llava")
    block = model.blocks[1]
    handle = block.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "more": args[0] * 2}), with_kwargs=True
    )
    try:
        with pytest.raises(
            RepetitionError, match=r"layer 1 is given more than the stream .* \(its arguments \['more'\]\)"
        ):
            arrays(settled(model, prompt_of(model, picture), "full"))
    finally:
        handle.remove()


def test_the_layers_are_as_before_afterwards(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    before = [dict(vars(b)) for b in model.blocks]
    measure(model, prompt, ResponseSaliency(), recompute=True)
    with pytest.raises(ZeroDivisionError):
        measure(model, prompt, Saliency(), target=lambda logits: logits.sum() / (1 // 0), recompute=True)
    assert [dict(vars(b)) for b in model.blocks] == before


def test_a_layer_s_state_is_its_own():
    state = LayersApart()
    state["tower"] = 1
    state.place = ("in", 0)
    state.setdefault("mean", {})["x"] = 1
    assert "mean" in state
    assert state.get("mean") == state["mean"] == {"x": 1}
    state.place = ("in", 1)
    for use in (
        lambda: state["mean"],
        lambda: state.get("mean"),
        lambda: "mean" in state,
        lambda: state.setdefault("tower", 2),
        lambda: state.__setitem__("mean", 2),
    ):
        with pytest.raises(
            RepetitionError, match="keeps something from one layer for another, so no layer can run alone"
        ):
            use()


# --------------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.parametrize(("gradient", "analysis"), [("full", Saliency()), ("position", ResponseSaliency())])
def test_no_two_layers_patterns_are_alive_at_once(model_of, picture, monkeypatch, gradient, analysis):
    """Counts living patterns whenever one is made; the whole graph, counted in the same way, holds those of all layers."""
    model = model_of("qwen3_vl")
    prompt = prompt_of(model, picture)
    made: list[StorageWeakRef] = []
    most: list[int] = []
    visit = Pass.visit

    def counted(self, part, site, layer, value):
        if (part, site) == ("decoder", "pattern"):
            made.append(StorageWeakRef(value.untyped_storage()))
            gc.collect()
            most.append(sum(not r.expired() for r in made))
        return visit(self, part, site, layer, value)

    monkeypatch.setattr(Pass, "visit", counted)
    target = 0 if gradient == "full" else None
    measure(model, prompt, analysis, target=target, recompute=True)
    assert max(most) == 1
    assert len(most) == 2 * model.layers
    made.clear(), most.clear()
    measure(model, prompt, analysis, target=target, recompute=False)
    assert max(most) > 1


def test_layers_run_twice_where_the_whole_graph_would_be_large(model_of, picture, monkeypatch):
    model = model_of("llava")
    settle = functools.partial(settled, model, prompt_of(model, picture), "full", recompute=None)
    assert not settle().twice
    monkeypatch.setattr("interp.passes.plan.WHOLE_GRAPH", 0)
    assert settle().twice
    assert not settle(recompute=False).twice
    assert not replace(settle(), loss=None).twice


def test_the_estimate_says_what_the_choice_saves(model_of, picture):
    model = model_of("llava")
    twice = settled(model, prompt_of(model, picture), "full")
    whole = replace(twice, recompute=False)
    assert twice.estimate(keeps=False).kept == 0
    assert twice.estimate().kept == whole.estimate().kept
    deep = memory.Sizes(80, 1000, 1000, 1000, 32, 32, 128, 4096, 32000, 2)
    assert memory.layer_by_layer(deep) < memory.whole_graph(deep) / 10


@pytest.mark.parametrize(
    ("analysis", "more"), [(Saliency(), {"target": 1}), (ResponseSaliency(), {})], ids=["full", "position"]
)
def test_measuring_gives_the_same_either_way(model_of, picture, analysis, more):
    """Bit for bit; and beside an analysis without gradients, which has a pass of its own then, up to the order of additions."""
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    for beside, slack in (((), 0), ((Budget(), Sinks()), 1e-6)):
        kinds = [*beside[:1], analysis, *beside[1:]]
        one, other = (measure(model, prompt, *kinds, **more, recompute=r) for r in (True, False))
        one, other = (x if beside else (x,) for x in (one, other))
        assert [type(x) for x in one] == [type(x) for x in other]
        for a, b in zip(one, other, strict=True):
            for name in type(a).axes():
                torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=slack, atol=slack)
    assert type(measure(model, prompt, Budget(), recompute=True)).__name__ == "SegmentShares"


@pytest.mark.parametrize(
    ("analysis", "more"), [(Saliency(), {"target": 1}), (ResponseSaliency(), {})], ids=["full", "position"]
)
def test_what_needs_no_gradient_is_read_where_there_is_no_graph(model_of, picture, monkeypatch, analysis, more):
    """Where layers run twice, rows that only `Sinks` reads are never part of a graph, and each layer is reduced once for each analysis."""
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    seen: list[tuple[bool, int]] = []
    visit = Pass.visit

    def watched(self, part, site, layer, value):
        if (part, site) == ("decoder", "pattern"):
            seen.append((torch.is_grad_enabled(), value.shape[-2]))
        return visit(self, part, site, layer, value)

    monkeypatch.setattr(Pass, "visit", watched)
    measure(model, prompt, analysis, Sinks(), **more, recompute=True)
    rows = len(prompt) if more else len(prompt.response_ids)
    plain, graph = [(False, len(prompt))] * model.layers, [(False, rows), (True, rows)]
    assert seen[-model.layers :] == plain
    assert sorted(seen[: -model.layers]) == sorted(graph * model.layers)
    seen.clear()
    measure(model, prompt, analysis, Sinks(), **more, recompute=False)
    assert seen == [(True, len(prompt))] * model.layers


def test_a_value_that_a_change_has_cut_off_has_no_gradient(model_of, picture):
    model = model_of("llava")
    cut = Apply("z", lambda value, here: value.detach() * 2)
    found = measure(
        model, prompt_of(model, picture), Saliency(norm="none"), interventions=[cut], target=0, recompute=True
    )
    assert not bool(found.saliency.any())
