import pytest
import torch

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.readouts import LensTable, LogitAttribution, LogitLens, LogitParts
from interp.data.heads import HeadWeights, LogitDirections
from interp.data.layout import Layout
from interp.data.tokens import EMITTING, PREDICTING, Segment

T = torch.tensor
KINDS = ["llama", "llava", "qwen2_vl", "qwen3_vl", "gpt2", "gpt_neox", "gemma3"]
# root-mean-square norms, an image, features put in between layers, LayerNorms with bias, parallel MLPs, norms behind the attention


def prompt_of(model, picture, reply="a cat"):
    image = None if model.family.image_token is None else picture()
    return model.prepare(image, "What is it?", response=reply)


def test_the_lens_by_hand():
    layout = Layout(T([Segment.USER.value] * 3))
    says = T([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    view = View(layout, ("a", "b", "c"), (0, 1, 2), unembed=lambda stream: stream @ torch.eye(3))
    lens = LogitLens(top=2)
    found = lens.finish({4: lens.reduce({"resid_post": says}, view)}, view)
    assert found.top[0, :2].tolist() == [[2, 1], [0, 1]]
    torch.testing.assert_close(found.following[0, :2], says.log_softmax(-1)[[0, 1], [1, 2]])
    assert found.rank.tolist() == [[1, 1, -1]]
    assert bool(found.following[0, 2].isnan())
    torch.testing.assert_close(found.entropy[0, 2], T(3.0).log())
    assert found.frame()["layer"].unique().tolist() == [4]


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_last_layer_the_lens_reads_what_the_model_says(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, LogitLens())
    logits = interp.capture(model, prompt, want={"logits"}).logits.log_softmax(-1)
    best, top = logits.topk(5, -1)
    torch.testing.assert_close(found.top_log_probability[-1], best, rtol=1e-4, atol=1e-5)
    assert float((found.top[-1] == top).float().mean()) > 0.99  # ties may fall either way
    told = logits[:-1].gather(-1, T(prompt.ids[1:])[:, None])[:, 0]
    torch.testing.assert_close(found.following[-1, :-1], told, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_sum_to_the_logit(kind, model_of, picture):
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, LogitAttribution())
    logits = interp.capture(model, prompt, want={"logits"}).logits
    rows = list(prompt.layout.positions(PREDICTING))
    assert found.positions == tuple(rows)
    assert found.ids == prompt.response_ids
    wanted = logits[rows].gather(-1, T(prompt.response_ids)[:, None])[:, 0]
    torch.testing.assert_close(found.logit, wanted, rtol=1e-4, atol=1e-4)
    parts = found.heads.sum((0, 1)) + found.mlp.sum(0) + found.rest.sum(0) + found.embedding + found.bias
    torch.testing.assert_close(parts, wanted, rtol=1e-4, atol=1e-4)
    if kind in {"llama", "llava"}:
        torch.testing.assert_close(found.rest, torch.zeros_like(found.rest), rtol=0, atol=1e-5)
    assert bool((found.heads.abs().sum((0, 2)) > 0).all())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_each_head_is_what_its_output_adds(kind, model_of, picture):
    """Take the head's output out of the last stream and read the logit again, the norm's scale as it was."""
    model = model_of(kind)
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, LogitAttribution(against=7))
    kept = interp.capture(model, prompt, want={"z", "resid_post"})
    attention = model.blocks[1].get_submodule(model.family.attention)
    weight = attention.o_proj.weight if kind == "llama" else attention.c_proj.weight.T
    norm, head = model.decoder.get_submodule(model.family.final_norm), model.module.get_output_embeddings()
    row, token = found.positions[1], prompt.response_ids[1]
    stream = kept.resid_post[-1, row]
    shift = norm.bias.detach() if kind == "gpt2" else 0
    epsilon = norm.eps if kind == "gpt2" else norm.variance_epsilon

    def size(x):
        return ((x - x.mean() if kind == "gpt2" else x).square().mean() + epsilon).sqrt()

    for index in range(model.heads):
        slot = slice(index * model.head_dim, (index + 1) * model.head_dim)
        without = stream - weight[:, slot].detach() @ kept.z[1, row, index]
        with torch.no_grad():  # undo the norm's scale for the changed stream, apply that of the whole
            frozen = (norm(without) - shift) * size(without) / size(stream) + shift
            difference = head(norm(stream)) - head(frozen)
        torch.testing.assert_close(found.heads[1, index, 1], difference[token] - difference[7], rtol=1e-3, atol=1e-5)


def test_heads_are_what_transformer_lens_makes_of_them(model_of, picture):
    model = model_of("qwen2_vl")
    prompt = prompt_of(model, picture)
    kept = interp.capture(model, prompt, want={"z", "mlp_out", "resid_pre", "resid_post"})
    found = on_capture(LogitAttribution(), kept, view=model.view(prompt))
    results = kept.to_activation_cache(model).stack_head_results()[:, 0, list(found.positions)]
    along = model.directions(prompt.response_ids)
    scale = along.scale(kept.resid_post[-1, list(found.positions)])
    wanted = (results * along.vectors).sum(-1).unflatten(0, (model.layers, model.heads)) / scale
    torch.testing.assert_close(found.heads, wanted, rtol=1e-4, atol=1e-5)


def test_a_token_of_ones_own_is_read_at_every_emitting_row(model_of, picture):
    model = model_of("llava")
    prompt = prompt_of(model, picture)
    found = interp.measure(model, prompt, LogitAttribution(token=9))
    logits = interp.capture(model, prompt, want={"logits"}).logits
    torch.testing.assert_close(found.logit, logits[list(prompt.layout.positions(EMITTING)), 9], rtol=1e-4, atol=1e-4)
    bare = model.prepare(picture(), "What is it?")
    assert interp.measure(model, bare, LogitAttribution(token=9)).positions == (len(bare) - 1,)


@pytest.mark.parametrize("analysis", [LogitLens(), LogitAttribution()])
def test_streaming_and_a_saved_capture_agree(analysis, model_of, picture, tmp_path):
    model = model_of("qwen2_vl")
    prompt = prompt_of(model, picture)
    stream = interp.measure(model, prompt, analysis)
    kept = interp.capture(model, prompt, want=analysis.want)
    kept.save(tmp_path / "c.safetensors")
    again = on_capture(analysis, interp.Capture.load(tmp_path / "c.safetensors"), view=model.view(prompt))
    loaded = type(stream).load(stream.save(tmp_path / "r.safetensors"))
    for name in type(stream).axes():
        torch.testing.assert_close(getattr(again, name), getattr(stream, name), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(getattr(loaded, name), getattr(stream, name), rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match=r"needs the model's output head.*view=model.view\(prompt\)"):
        on_capture(analysis, kept)


def test_parts_by_hand():
    layout = Layout(T([Segment.USER.value, Segment.RESPONSE.value]))
    along = LogitDirections(T([[1.0, 0.0]]), T([0.5]), False, 0.0)
    zeros = torch.zeros(1, 1, 2)
    weights = HeadWeights(
        zeros, zeros, zeros, T([[[2.0], [9.0]]]), zeros[0, :, :1], zeros[0, :, :1], zeros[0, :, :1], 1.0
    )
    view = View(layout, ("a", "b"), (0, 1), layer=0, weights=lambda _: weights, directions=lambda _: along)
    values = {"z": T([[[3.0]], [[0.0]]]), "mlp_out": T([[4.0, 1.0], [0, 0]]), "resid_pre": T([[1.0, 0], [0, 0]])}
    # 12 = 1 from the embedding, 6 from the head, 4 from the MLP, 1 from elsewhere
    values["resid_post"] = T([[12.0, 5.0], [0.0, 0.0]])
    analysis = LogitAttribution()
    found = analysis.finish({0: analysis.reduce(values, view)}, view)
    scale = (169 / 2) ** 0.5
    for name, wanted in {"heads": 6.0, "mlp": 4.0, "rest": 1.0, "embedding": 1.0}.items():
        assert float(getattr(found, name).flatten()) == pytest.approx(wanted / scale)
    assert float(found.logit) == pytest.approx(12 / scale + 0.5)
    with pytest.raises(ValueError, match=r"needs every layer from 0 on, got \[1\]"):
        analysis.finish({1: analysis.reduce(values, view)}, view)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_read_is_refused(model_of, picture):
    with pytest.raises(ValueError, match="at least 1; got 0"):
        LogitLens(top=0)
    model = model_of("llava")
    bare = model.prepare(picture(), "What is it?")
    with pytest.raises(ValueError, match="take no token of this conversation; does it need a reply"):
        interp.measure(model, bare, LogitAttribution())
    assert (LensTable.summary_field(), LogitParts.summary_field()) == ("following", "heads")
