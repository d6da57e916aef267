"""Attention imbalance between modalities and of tokens."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.imbalance import (
    ModalityImbalance,
    ModalityImbalances,
    TokenImbalance,
    TokenImbalances,
    contribution_norms,
    later_mean,
    normalise_shares,
    token_imbalance,
)
from interp.data.heads import HeadWeights
from interp.data.layout import Grid, Layout
from interp.data.tokens import EMITTING, EVERY, PREDICTING, Segment

LAYOUT = Layout(torch.tensor([1, 2, 2, 3, 4]), (Grid(0, 1, 2, None),))


def view_of(queries: tuple[int, ...], layout: Layout = LAYOUT, **others) -> View:
    return View(layout, tuple("abcdefgh"[: len(layout)]), tuple(range(len(layout))), queries, **others)


# ------------------------------------------------------------------------------------------------------------ modality


def test_modality_imbalance_by_hand() -> None:
    pattern = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0], [0.5, 0.1, 0.1, 0.1, 0.2]]])
    analysis = ModalityImbalance()
    view = view_of((3, 4))
    result = analysis.finish({2: analysis.reduce({"pattern": pattern}, view)}, view)
    torch.testing.assert_close(result.mai, torch.tensor([[[0.8, 1.5]]]))
    torch.testing.assert_close(result.by_head("ratios"), torch.tensor([[1.15]]))
    torch.testing.assert_close(result.by_head(), torch.tensor([[0.35 / 0.35]]))
    torch.testing.assert_close(result.text, torch.tensor([[[0.4, 0.3]]]))
    torch.testing.assert_close(result.image, torch.tensor([[[0.5, 0.2]]]))
    assert (result.rows, result.layers) == ((3, 4), (2,))
    with_system = ModalityImbalance(text=Segment.SYSTEM | Segment.USER | Segment.RESPONSE)
    torch.testing.assert_close(with_system.reduce({"pattern": pattern}, view)["text"], torch.tensor([[0.5, 0.8]]))


def test_a_head_that_never_looks_at_the_image_is_finite_or_infinite_but_no_nan() -> None:
    analysis = ModalityImbalance()
    view = view_of((4,))
    result = analysis.finish({0: analysis.reduce({"pattern": torch.tensor([[[0.0, 0, 0, 0.5, 0.5]]])}, view)}, view)
    assert float(result.mai) > 1e30


def test_a_conversation_without_an_image_is_refused() -> None:
    text = Layout(torch.tensor([3, 3, 4]))
    with pytest.raises(ValueError, match="needs both, but this conversation has no image token"):
        ModalityImbalance().reduce({"pattern": torch.rand(1, 2, 3)}, view_of((1, 2), text))
    with pytest.raises(ValueError, match="no text token"):
        ModalityImbalance(text=Segment.PAD).reduce({"pattern": torch.rand(1, 2, 5)}, view_of((3, 4)))


def test_modality_imbalance_of_a_model_equals_a_loop(model_of, picture, tmp_path) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a small cat")
    measured = interp.measure(model, prompt, ModalityImbalance())
    kept = interp.capture(model, prompt, want={"pattern"}, queries=EMITTING)
    captured = on_capture(ModalityImbalance(), kept)
    for name in ModalityImbalances.axes():
        assert torch.equal(getattr(measured, name), getattr(captured, name))
    names = prompt.layout.segment.tolist()
    for s in range(len(kept.queries)):
        row = kept.pattern[1, 2, s].tolist()
        text = sum(p for p, n in zip(row, names, strict=True) if n in (3, 4))
        image = sum(p for p, n in zip(row, names, strict=True) if n == 2)
        assert float(measured.mai[1, 2, s]) == pytest.approx(text / image, rel=1e-4)
    again = ModalityImbalances.load(measured.save(tmp_path / "mai.safetensors"))
    assert torch.equal(again.mai, measured.mai)


# -------------------------------------------------------------------------------------------------------------- tokens


def test_later_mean_by_hand() -> None:
    values = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(later_mean(values, (1, 2)), torch.tensor([1.5, 4.0, math.nan]), equal_nan=True)
    torch.testing.assert_close(later_mean(values, (1, 2), 2), torch.tensor([1.5, math.nan, math.nan]), equal_nan=True)


def test_tokens_that_few_rows_come_after_are_left_out_unless_there_are_no_more() -> None:
    layout = Layout(torch.full((6,), 3))
    pattern = torch.ones(1, 6, 6).tril() / 6
    for queries, least, known in [(range(6), 4, 2), (range(6), 1, 5), ((4, 5), 4, 4)]:
        view = view_of(tuple(queries), layout)
        found = TokenImbalance("uniform", least_rows=least).reduce({"pattern": pattern[:, list(queries)]}, view)
        assert int((~found["attention"].isnan()).sum()) == known
        torch.testing.assert_close(found["attention"].nansum(), torch.tensor(1.0))


def test_shares_sum_to_one_and_leave_out_what_has_none() -> None:
    torch.testing.assert_close(
        normalise_shares(torch.tensor([1.0, 3.0, math.nan])), torch.tensor([0.25, 0.75, math.nan]), equal_nan=True
    )
    torch.testing.assert_close(
        normalise_shares(torch.tensor([0.0, 0.0, math.nan])), torch.tensor([0.5, 0.5, math.nan]), equal_nan=True
    )


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=8))
def test_the_mean_imbalance_weighted_by_information_is_one(values) -> None:
    received, contributed = torch.tensor(values).T
    tai = token_imbalance(received, contributed)
    assert float((tai * normalise_shares(contributed)).sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(token_imbalance(received, received * 3), torch.ones(len(received)))
    torch.testing.assert_close(token_imbalance(received * 7, contributed), tai)


def test_contribution_norms_equal_a_loop_with_shared_heads() -> None:
    heads, kv_heads, width, dim, length = 4, 2, 3, 5, 70  # more tokens than go into one block
    zero = torch.zeros(heads, width)
    q = torch.randn(heads, width, dim)
    weights = HeadWeights(q, q, q, torch.randn(heads, dim, width), zero, zero, zero, 1.0)
    pattern, values = torch.randn(heads, 2, length).softmax(-1), torch.randn(length, kv_heads, width)
    got = contribution_norms(pattern, values, weights)
    for i in range(2):
        for j in range(length):
            moved = sum(pattern[h, i, j] * weights.W_O[h] @ values[j, h // 2] for h in range(heads))
            assert float(got[i, j]) == pytest.approx(float(moved.norm()), rel=1e-3, abs=1e-6)


def by_loop(kept, layer: int, contributed) -> tuple[list[float], list[float]]:
    """Return attention and information of every token by plain loops; `contributed(layer, row, key)`."""
    length, heads = kept.pattern.shape[-1], kept.pattern.shape[1]
    sums = []
    for of in (lambda r, j: sum(float(kept.pattern[layer, h, r, j]) for h in range(heads)) / heads, contributed):
        means = []
        for j in range(length):
            after = [of(r, j) for r, i in enumerate(kept.queries) if i > j]
            means.append(sum(after) / len(after) if after else math.nan)
        total = sum(m for m in means if not math.isnan(m))
        sums.append([m / total for m in means])
    return sums[0], sums[1]


@pytest.mark.parametrize("denominator", ["output_norm", "uniform", "saliency", "erasure"])
def test_token_imbalance_of_a_model_equals_a_loop(model_of, picture, tmp_path, denominator) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(20, 20), "So?", response="a cat")
    asked = TokenImbalance(denominator, least_rows=1)
    measured = interp.measure(model, prompt, asked)
    graded = denominator in ("saliency", "erasure")
    settings_ = {"grad": {"pattern"}, "gradient": "position", "queries": PREDICTING} if graded else {}
    kept = interp.capture(model, prompt, want={"pattern", "v"}, **settings_)
    captured = on_capture(asked, kept, view=model.view(prompt))
    for name in TokenImbalances.axes():
        torch.testing.assert_close(getattr(measured, name), getattr(captured, name), rtol=0, atol=0, equal_nan=True)
    layer, group = 1, model.heads // model.kv_heads
    w_o = model.weights(layer).W_O

    def contributed(r: int, j: int) -> float:
        a = kept.pattern[layer, :, r, j]
        if denominator == "uniform":
            return 1.0
        if denominator == "output_norm":
            return float(sum(a[h] * w_o[h] @ kept.v[layer, j, h // group] for h in range(model.heads)).norm())
        effect = [float(x * g) for x, g in zip(a, kept.pattern_grad[layer, :, r, j], strict=True)]
        return sum(map(abs, effect)) if denominator == "saliency" else abs(sum(effect))

    attention, information = by_loop(kept, layer, contributed)
    torch.testing.assert_close(measured.attention[layer], torch.tensor(attention), rtol=1e-3, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(
        measured.information[layer], torch.tensor(information), rtol=2e-3, atol=1e-6, equal_nan=True
    )
    expected = torch.tensor(attention) / torch.tensor(information)
    torch.testing.assert_close(measured.tai[layer], expected, rtol=5e-3, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(
        measured.overall,
        measured.attention.mean(0) / measured.information.mean(0),
        rtol=1e-3,
        atol=1e-5,
        equal_nan=True,
    )
    assert bool(measured.overall[-1].isnan())  # nothing comes after the last token
    torch.testing.assert_close(measured.attention.nansum(-1), torch.ones(model.layers))
    torch.testing.assert_close(measured.information.nansum(-1), torch.ones(model.layers))
    again = TokenImbalances.load(measured.save(tmp_path / "tai.safetensors"))
    assert again.denominator == denominator


@pytest.mark.parametrize("kind", ["llava", "qwen2", "gpt2"])
def test_what_all_tokens_contribute_is_what_the_attention_returns(model_of, kind) -> None:
    """W_O, the values and the sharing of key-value heads are read right: the vectors sum to the attention's output."""
    model = model_of(kind)
    kept = interp.capture(model, model.prepare(text="a few words"), want={"pattern", "v", "attn_out"})
    group = model.heads // model.kv_heads
    weights = model.weights(1)
    values = kept.v[1].repeat_interleave(group, 1)
    total = torch.einsum("hij,hde,jhe->id", kept.pattern[1], weights.W_O, values)
    bias = [
        b
        for n, b in model.blocks[1].get_submodule(model.family.attention).named_parameters()
        if n in ("o_proj.bias", "c_proj.bias")
    ]
    torch.testing.assert_close(total + sum(bias), kept.attn_out[1], rtol=1e-3, atol=1e-5)
    norm = contribution_norms(kept.pattern[1], kept.v[1], weights)
    first = torch.einsum("h,hde,he->d", kept.pattern[1, :, 2, 0], weights.W_O, values[0])
    torch.testing.assert_close(norm[2, 0], first.norm(), rtol=1e-3, atol=1e-6)


def test_largest_tokens_are_listed() -> None:
    shape = torch.tensor([[0.5, 0.3, 0.2, math.nan]])
    even = torch.tensor([[1 / 3, 1 / 3, 1 / 3, math.nan]])
    result = TokenImbalances(shape / even, shape, even, (shape / even)[0], (0,), tuple("abcd"), "uniform")
    assert [(r["position"], r["token"]) for r in result.largest()] == [(0, "a"), (1, "b"), (2, "c")]
    assert result.largest(1)[0]["tai"] == pytest.approx(1.5)


def test_gradients_are_asked_for_only_where_they_count() -> None:
    assert TokenImbalance("uniform").grad == TokenImbalance().grad == frozenset()
    assert TokenImbalance("erasure").grad == TokenImbalance("saliency").grad == {"pattern"}
    assert "v" in TokenImbalance().want
    assert TokenImbalance().rows == EVERY


@pytest.mark.usefixtures("unchecked")
def test_wrong_settings_and_missing_things_are_refused(model_of) -> None:
    with pytest.raises(ValueError, match="one of output_norm, uniform, erasure, saliency, got 'norm'"):
        TokenImbalance("norm")
    layout = Layout(torch.tensor([3, 3]))
    values = {"pattern": torch.ones(1, 1, 2) / 2, "v": torch.ones(2, 1, 2)}
    masses = torch.ones(1, 1, 2)
    with pytest.raises(ValueError, match="mean is 'masses' or 'ratios', got 'both'"):
        ModalityImbalances(masses, masses, masses, (0,), (1, 2)).by_head("both")
    with pytest.raises(ValueError, match="needs the model's weights"):
        TokenImbalance().reduce(values, view_of((1,), layout))
    with pytest.raises(ValueError, match=r"no token lies before the query rows \(0,\)"):
        TokenImbalance("uniform").reduce(values, view_of((0,), layout))
    model = model_of("llama")
    with pytest.raises(ValueError, match="reply"):
        interp.measure(model, model.prepare(text="no reply"), TokenImbalance("saliency"))
