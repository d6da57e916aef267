import math

import pytest
import torch

import interp
import interp.world
from interp.data.tokens import EMITTING, Segment
from interp.families.base import family
from interp.methods.memvr import Memvr, MixInImage
from interp.passes.capture import capture

SETTINGS = {"ratio": 0.6, "layers": (0,)}


def test_it_conforms(seeing, conforms):
    conforms(seeing, Memvr(threshold=0.1, **SETTINGS), Memvr(ratio=0.0, threshold=0.1, layers=(0,)))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    method = Memvr(threshold=0.1, **SETTINGS)
    assert not torch.equal(under(model, prompt, method), under(model, prompt))


def by_plain_hooks(model, prompt, threshold, release):
    """Return the logits of the model without taps whose second MLP looks again, and which rows did."""
    plain, seen, looked = family(model.config.model_type).tiny()[0], {}, []
    decoder = plain.get_submodule(model.family.decoder)
    norm, head = decoder.get_submodule(model.family.final_norm), plain.get_output_embeddings().weight
    image = list(prompt.layout.positions(Segment.IMAGE))
    first, second = decoder.layers[0], decoder.layers[1]

    def entry(_, args, kwargs):
        seen["image"] = (args[0] if args else kwargs["hidden_states"])[0, image]

    def uncertainty(row):
        top = (norm(seen["after"][row]) @ head.T).topk(10).values.softmax(-1)
        return float(-(top * top.log()).sum() / math.log(10))

    def again(_, args, output):
        x, f, v = args[0][0], output[0].clone(), seen["image"]
        rows = range(len(x)) if release else prompt.layout.positions(EMITTING)
        looked.extend(r for r in rows if uncertainty(-1 if release else r) > threshold)
        g = x @ v.T @ v
        for r in looked:
            c = f.abs().mean() / g.abs().mean() if release else output[0, r].abs().mean() / g[r].abs().mean()
            c = output[0].abs().mean() / g.abs().mean() if release else c
            f[r] = 0.4 * output[0, r] + 0.6 * c * g[r]
        return f[None]

    first.register_forward_pre_hook(entry, with_kwargs=True)
    first.register_forward_hook(lambda _, __, out: seen.update(after=(out[0] if isinstance(out, tuple) else out)[0]))
    second.mlp.register_forward_hook(again)
    with torch.no_grad():
        return plain.eval()(**model.inputs([prompt]), use_cache=False).logits, looked


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
def test_uncertain_rows_have_the_image_in_the_next_mlp(model_of, answered, under, kind):
    model = model_of(kind)
    prompt = answered(model)
    stream = capture(model, prompt, want={"resid_post"}).resid_post[0][prompt.layout.mask(EMITTING)]
    top = model.unembed(stream).topk(10, -1).values.softmax(-1)
    threshold = float((-(top * top.log()).sum(-1) / math.log(10)).sort().values[5:7].mean())
    expected, looked = by_plain_hooks(model, prompt, threshold, release=False)
    assert 0 < len(looked) < len(prompt.layout.positions(EMITTING))
    got = under(model, prompt, Memvr(threshold=threshold, **SETTINGS))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llava", "internvl", "instructblip"])
def test_the_release_changes_every_row_of_a_pass_when_the_last_is_uncertain(model_of, answered, under, kind):
    model = model_of(kind)
    prompt = answered(model)
    expected, looked = by_plain_hooks(model, prompt, 0.1, release=True)
    assert len(looked) == len(prompt)
    method = Memvr(threshold=0.1, variant="release", **SETTINGS)
    torch.testing.assert_close(under(model, prompt, method), expected, rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="changed nothing"):
        under(model, prompt, Memvr(threshold=1.0, variant="release", **SETTINGS))


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_a_row_looks_again_once(variant):
    """Two layers in a row are uncertain; only the MLP behind the first is changed."""
    model = interp.load("scenes")
    prompt = model.prepare(interp.world.scenes("test", 1, 0)[0].image, "Is there a lamp?", response="yes")
    method = Memvr(0.5, 0.0, (2, 3), variant)
    kept = [capture(model, prompt, want={"mlp_out"}, interventions=c).mlp_out for c in ((), (method,))]
    last = prompt.layout.positions(EMITTING)[0]
    moved = (kept[0] - kept[1])[:, last].abs().amax(-1)
    assert float(moved[:3].max()) == 0 < float(moved[3])
    only = capture(model, prompt, want={"mlp_out"}, interventions=(Memvr(0.5, 0.0, (2,), variant),)).mlp_out
    torch.testing.assert_close(only, kept[1])


def test_the_release_decodes(model_of, picture):
    model = model_of("llava")
    prompt, method = model.prepare(picture(), "What?"), Memvr(threshold=0.1, variant="release", **SETTINGS)
    free, changed = (interp.generate(model, prompt, *c, max_new_tokens=4, min_new_tokens=4) for c in ((), (method,)))
    assert free.logprobs != changed.logprobs


def test_published_layers_are_those_of_32(model_of):
    class Deep:
        layers = 32

    assert Memvr()._layers(Deep) == tuple(range(6, 16))
    Deep.layers = 8
    assert Memvr()._layers(Deep) == (2, 3, 4)


def test_a_prompt_without_an_image_is_refused(model_of):
    model = model_of("llava")
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[0\] have none"):
        interp.generate(model, model.prepare(text="What is there?"), Memvr(layers=(0,)))


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Memvr().refusal(model_of("qwen2"))
    assert "layers [1] have no layer after them: it has layers 0..1" in Memvr(layers=(0, 1)).refusal(model_of("llava"))
    assert MixInImage.site == "mlp_out"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.5}, r"ratio and threshold lie in \[0, 1\], got 1.5"),
        ({"threshold": -0.5}, "ratio and threshold lie in"),
        ({"layers": ()}, "leaves nothing to read"),
        ({"variant": "other"}, "variant is 'paper' or 'release', got 'other'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Memvr(**settings)
