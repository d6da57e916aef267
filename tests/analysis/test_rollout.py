import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.base import on_capture
from interp.analysis.rollout import AttentionRollout, Chain, GradientRelevance, relevance, relevance_update, rollout
from interp.data.tokens import EVERY

T = torch.tensor


def prompt_of(model, picture, reply="a cat"):
    return model.prepare(picture(), "What is it?", response=reply)


def test_rollout_by_hand():
    first, second = T([[1.0, 0.0], [1.0, 0.0]]), T([[1.0, 0.0], [0.5, 0.5]])
    found = rollout(torch.stack([first, second]))
    torch.testing.assert_close(found[0], T([[1.0, 0.0], [0.5, 0.5]]))
    torch.testing.assert_close(found[1], T([[1.0, 0.0], [0.25 + 0.75 * 0.5, 0.75 * 0.5]]))
    torch.testing.assert_close(rollout(first[None], residual=1.0)[0], torch.eye(2))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(0, 1), st.integers(0, 99))
def test_rows_sum_to_one_and_see_nothing_ahead(layers, length, residual, seed):
    scores = torch.randn(layers, length, length, generator=torch.Generator().manual_seed(seed))
    ahead = torch.ones(length, length).triu(1).bool()
    found = rollout(scores.masked_fill(ahead, -torch.inf).softmax(-1), residual)
    torch.testing.assert_close(found.sum(-1), torch.ones(layers, length))
    assert not found[:, ahead].any()


def test_relevance_by_hand():
    pattern, gradient = (
        T([[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]]),
        T([[[0.0, 0.0], [-4.0, 2.0]], [[0.0, 0], [0, 0]]]),
    )
    update = relevance_update(pattern, gradient)
    torch.testing.assert_close(update, T([[0.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(relevance(torch.stack([update, update]))[-1], T([[1.0, 0.0], [2.0, 1.0]]))


@pytest.mark.parametrize("down", [False, True])
def test_layers_joined_from_either_end_are_the_product(down):
    """Only one chain is kept, and going down not even a token × token matrix."""
    patterns = torch.rand(4, 6, 6).tril()
    patterns = patterns / patterns.sum(-1, keepdim=True)
    factors = (patterns + torch.eye(6)) / 2
    where, order = [1, 4], [3, 2, 1, 0] if down else [0, 1, 2, 3]
    chain = Chain(factors[order[0], where][None], factors[order[0]], (order[0],))
    for layer in order[1:]:
        chain = chain.with_layer(layer, factors[layer], where)
    assert chain.layers == (0, 1, 2, 3)
    torch.testing.assert_close(chain.rows, rollout(patterns)[:, where])
    assert (chain.whole is None) == down


def test_layers_that_are_no_neighbours_are_not_joined():
    one = Chain(torch.rand(1, 2, 3), torch.rand(3, 3), (2,)).with_layer(4, torch.rand(3, 3), [0, 1])
    with pytest.raises(
        ValueError, match=r"layer 3 is no neighbour of \[2, 4\]: layers are joined first to last or last to first"
    ):
        one.with_layer(3, torch.rand(3, 3), [0, 1])
    with pytest.raises(ValueError, match="layer 5 is no neighbour"):
        one.with_layer(1, torch.rand(3, 3), [0, 1]).with_layer(5, torch.rand(3, 3), [0, 1])


@pytest.mark.parametrize("analysis", [AttentionRollout(), AttentionRollout("max"), GradientRelevance()])
def test_the_rows_are_those_of_all_patterns_at_once(analysis, model_of, picture):
    model = model_of("qwen3_vl")
    prompt = prompt_of(model, picture)
    kept = interp.capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=1)
    if analysis.grad:
        whole = relevance(
            torch.stack([relevance_update(p, g) for p, g in zip(kept.pattern, kept.pattern_grad, strict=True)])
        )
    else:
        reduced = kept.pattern.mean(1) if analysis.heads == "mean" else kept.pattern.amax(1)
        whole = rollout(reduced / reduced.sum(-1, keepdim=True))
    for recompute in (True, False) if analysis.grad else (None,):
        found = interp.measure(model, prompt, analysis, target=1 if analysis.grad else None, recompute=recompute)
        torch.testing.assert_close(found.share, whole[:, list(found.queries)], rtol=1e-4, atol=1e-6)


def test_only_the_row_of_the_target_has_relevant_tokens_in_the_end(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    first = len(prompt) - len(prompt.response_ids)
    for target in (0, 2):
        found = interp.measure(model, prompt, GradientRelevance(), target=target)
        assert found.target_row == first + target - 1
        image = found.on_image()
        assert image.shape == (16,)
        assert bool((image >= 0).all())
        assert bool(image.any())
        later = found.share[-1, found.queries.index(found.target_row) + 1 :]
        torch.testing.assert_close(later, torch.eye(len(prompt))[list(found.queries[-len(later) :])])


@pytest.mark.parametrize("analysis", [AttentionRollout(), AttentionRollout("max"), GradientRelevance()])
def test_streaming_and_a_saved_capture_agree(analysis, model_of, picture, tmp_path):
    model = model_of("qwen2_vl")
    prompt = prompt_of(model, picture)
    target = 1 if analysis.grad else None
    stream = interp.measure(model, prompt, analysis, target=target)
    kept = interp.capture(model, prompt, want={"pattern"}, grad=analysis.grad, target=target)
    kept.save(tmp_path / "c.safetensors")
    again = on_capture(analysis, interp.Capture.load(tmp_path / "c.safetensors"))
    loaded = type(stream).load(stream.save(tmp_path / "r.safetensors"))
    for other in (again, loaded):
        torch.testing.assert_close(other.share, stream.share, rtol=0, atol=0)
    assert loaded.image == stream.image == prompt.layout.positions(interp.Segment.IMAGE)
    if not analysis.grad:
        torch.testing.assert_close(stream.share.sum(-1), torch.ones(stream.share.shape[:-1]))


def test_every_row_can_be_asked_for(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, AttentionRollout(queries=EVERY))
    assert found.share.shape == (2, len(prompt), len(prompt))
    pattern = interp.capture(model, prompt).pattern.mean(1)
    torch.testing.assert_close(found.share[0], (torch.eye(len(prompt)) + pattern[0]) / 2)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_followed_is_refused(model_of, picture):
    with pytest.raises(ValueError, match="heads is 'mean' or 'max' and residual in"):
        AttentionRollout("min")
    with pytest.raises(ValueError, match=r"got 'mean' and 1\.5"):
        AttentionRollout(residual=1.5)
    llama = model_of("llama")
    found = interp.measure(llama, llama.prepare(text="What is it?"), AttentionRollout())
    with pytest.raises(ValueError, match="this conversation has no image"):
        found.on_image()
    model = model_of("llava")
    found = interp.measure(model, prompt_of(model, picture), AttentionRollout())
    with pytest.raises(ValueError, match="row 0 of layer 1 was not measured"):
        found.on_image(query=0)
