import pytest
import torch

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.product import normalise_saliency, saliency
from interp.analysis.saliency import ResponseSaliency, Saliency, SaliencyMaps, TokenSaliency
from interp.analysis.sinks import Sinks
from interp.data.layout import Layout
from interp.data.tokens import PREDICTING, Segment
from interp.interventions.function import Apply
from interp.taps.running import run_pass

T = torch.tensor
KINDS = ["llama", "llava", "qwen2_vl"]  # the first and the last with two query heads to a key-value head


def prompt_of(model, picture, reply="a cat"):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, "What is it?", response=reply)


def test_flow_is_the_mean_over_pairs_that_see_each_other():
    S, U = "SYSTEM", "USER"
    maps = T([[[[1.0, 0, 0], [2, 3, 0], [4, 5, 6]]]])
    found = SaliencyMaps(maps, (0,), ("a", "b", "c"), (S, S, U), (0, 1, 2), "mean", "none").flow()
    named = found.frame().set_index(["query", "key"])["value"]
    assert named[S, S] == 2
    assert named[U, S] == pytest.approx(4.5)
    assert named[U, U] == 6
    assert named[S, U] == named["IMAGE", "IMAGE"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_gradient_of_a_multiplier_of_ones(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, Saliency("each", "none"), target=-1)
    ones = torch.ones(model.layers, model.heads, len(prompt), len(prompt), requires_grad=True)
    change = Apply("pattern", lambda value, here: value * ones[here.layer])
    at = len(prompt) - 1
    with pytest.warns(UserWarning, match="changed nothing"), run_pass(model.running([prompt], (change,))):
        logits = model.module(**model.inputs([prompt]), use_cache=False).logits[0]
    loss = -logits[at - 1].log_softmax(-1)[prompt.ids[at]]
    (wanted,) = torch.autograd.grad(loss, ones)
    torch.testing.assert_close(found.saliency, wanted.abs(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_at_once_is_one_backward_per_token(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, ResponseSaliency("each", "none"))
    for index, position in enumerate(found.positions):
        alone = interp.measure(model, prompt, Saliency("each", "none", queries=PREDICTING), target=index)
        assert alone.queries[index] == position - 1
        torch.testing.assert_close(found.saliency[:, :, index], alone.saliency[:, :, index], rtol=1e-3, atol=1e-5)
        assert bool(alone.saliency[0, :, index].any())


def test_the_row_of_the_appended_candidate_is_zero_and_the_one_before_is_not(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture, reply="cat")
    found = interp.measure(model, prompt, Saliency("abs_then_sum", "none"), target=-1)
    assert found.queries[-1] == len(prompt) - 1
    assert not found.saliency[:, :, -1].any()  # what the released sampler averages
    assert bool((found.saliency[:, 0, -2].sum(-1) > 0).all())
    assert not found.saliency[-1, :, :-2].any()  # in the last layer only the predicting row matters


@pytest.mark.parametrize("analysis", [Saliency(), ResponseSaliency()])
def test_streaming_and_a_saved_capture_agree(analysis, model_of, picture, tmp_path):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    target = 0 if analysis.gradient == "full" else None
    stream = interp.measure(model, prompt, analysis, target=target)
    kept = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=target, gradient=analysis.gradient)
    kept.save(tmp_path / "c.safetensors")
    again = on_capture(analysis, interp.Capture.load(tmp_path / "c.safetensors"))
    torch.testing.assert_close(again.saliency, stream.saliency, rtol=0, atol=0)
    loaded = type(stream).load(stream.save(tmp_path / "r.safetensors"))
    torch.testing.assert_close(loaded.saliency, stream.saliency, rtol=0, atol=0)
    assert loaded.words == prompt.tokens


def test_the_reply_of_a_model_is_scored_token_by_token(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, ResponseSaliency())
    assert found.reply == prompt.tokens[-len(prompt.response_ids) :]
    for key in ("own", "previous", "output"):
        score = found.score(key)
        assert score.shape == (len(found.reply),)
        assert bool(((score >= 0) & (score <= 1)).all())
    assert found.output[:, 0].tolist() == [0] * model.layers
    torch.testing.assert_close(found.source.sum(-1), found.saliency.sum(-1).mean(1))
    torch.testing.assert_close(found.score(layers=1), found.own[1])
    assert list(found.frame()["token"].unique()) == list(found.positions)


def test_it_shares_a_pass_with_an_analysis_that_needs_every_row(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    sinks, found = interp.measure(model, prompt, Sinks(), ResponseSaliency())
    alone = interp.measure(model, prompt, ResponseSaliency())
    torch.testing.assert_close(found.saliency, alone.saliency, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sinks.received, interp.measure(model, prompt, Sinks()).received)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_is_refused(model_of, picture):
    with pytest.raises(ValueError, match="heads is one of each, abs_then_sum, sum_then_abs, mean and norm one of"):
        Saliency("max")
    with pytest.raises(ValueError, match="norm one of frobenius, row_l2, none, got 'each' and 'l3'"):
        ResponseSaliency("each", "l3")
    with pytest.raises(ValueError, match="got 'max'"):
        saliency(torch.ones(1, 1, 1), torch.ones(1, 1, 1), (0,), "max")
    with pytest.raises(ValueError, match="norm is one of"):
        normalise_saliency(torch.ones(1, 1, 1), "l3")
    model = model_of("llava")
    bare = model.prepare(picture(), "What is it?")
    with pytest.raises(ValueError, match="no reply"):
        interp.measure(model, bare, Saliency(), target=0)
    with pytest.raises(ValueError, match=r"with_response"):
        interp.measure(model, bare, ResponseSaliency())
    found = interp.measure(model, prompt_of(model, picture), ResponseSaliency())
    with pytest.raises(ValueError, match="'own', 'previous' or 'output', got 'next'"):
        found.score("next")
    with pytest.raises(ValueError, match=r"layers \[7\] were not measured; there are \[0, 1\]"):
        found.score(layers=[0, 7])
    kept = interp.capture(model, bare, want={"pattern"})
    with pytest.raises(KeyError, match="pattern_grad was not captured"):
        on_capture(Saliency(), kept)


def test_a_view_without_its_rows_is_refused():
    layout = Layout(torch.full((3,), Segment.USER.value))
    with pytest.raises(ValueError, match="does it need a reply"):
        View(layout, ("a", "b", "c"), (0, 1, 2), (0, 1, 2)).for_rows(ResponseSaliency().rows)
    assert TokenSaliency.summary_field() == "own"
