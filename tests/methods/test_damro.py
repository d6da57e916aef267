import pytest
import torch
from torch.testing import assert_close

import interp
from interp.data.tokens import Segment
from interp.families.base import family
from interp.methods.damro import Damro, class_attention, keep_image_tokens, merge_patches

STRONG = Damro(alpha=4.0, beta=0.0, top=2)
NEUTRAL = Damro(alpha=0.0, beta=0.0, top=2)
OUTLINED = ["llava", "internvl", "instructblip", "blip_2"]


@pytest.mark.parametrize("kind", OUTLINED)
def test_it_conforms(model_of, conforms, kind):
    conforms(model_of(kind), STRONG, NEUTRAL, first=False)


def towers(model, prompt, by_hand, inside):
    """Return the pattern and the scores of each layer of an untapped vision tower."""
    patterns, scores = [], []

    def see(kept):
        return lambda layer, x: kept.append(x) or x

    by_hand(model, prompt, see(scores), see(patterns), inside=inside)
    return patterns, scores


def untapped(kind):
    """Return the tiny model of a kind once more, without taps."""
    module = family(kind).tiny()[0].requires_grad_(False)
    module.set_attn_implementation("eager")
    return module


def shorter(model, prompt, module, kept):
    """Return the function of a reply: logits of a sequence that holds the kept image tokens and no others."""
    held = {}
    hook = module.get_submodule(model.family.decoder).register_forward_pre_hook(
        lambda _, args, given: held.update(given), with_kwargs=True
    )
    with torch.no_grad():
        module(**model.inputs([prompt]), use_cache=False)
    hook.remove()
    image = prompt.layout.positions(Segment.IMAGE)
    rows = [i for i in range(len(prompt)) if i not in image or bool(kept[image.index(i)])]
    start = held["inputs_embeds"][:, rows]

    def last(ids):
        words = module.get_input_embeddings()(torch.tensor([list(ids)], dtype=torch.long))
        with torch.no_grad():
            embeds = torch.cat([start, words], 1)
            out = module(inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), use_cache=False)
            return out.logits[0, -1].float()

    return last


@pytest.mark.parametrize("kind", ["llava", "internvl"])
def test_it_is_a_shorter_sequence(model_of, picture, by_hand, uncached, two_passes, set_apart, kind):
    """The class token's queries and keys over their full width choose; the second pass is given the chosen embeddings alone."""
    model = model_of(kind)
    prompt = model.prepare(picture(56, 56), "What is there?")
    _, scores = towers(model, prompt, by_hand, model.family.vision)
    asked = scores[{"llava": -2, "internvl": -1}[kind]]
    looks = (asked.sum(1) * asked.shape[1] ** -0.5).softmax(-1)[:, 0, 1:]
    side = int(looks.shape[1] ** 0.5)
    times = {"llava": 1, "internvl": 2}[kind]
    by_token = looks.view(-1, side // times, times, side // times, times).sum((2, 4)).flatten(1)
    kept = torch.zeros_like(by_token, dtype=torch.bool)
    for row, chosen in zip(by_token, kept, strict=True):
        chosen[row.argsort(descending=True)[:3]] = True
    assert torch.equal(Damro(top=3).outliers(model, prompt), kept)
    streams = uncached(model, model.inputs([prompt])), shorter(model, prompt, untapped(kind), kept.flatten())
    two_passes(model, prompt, Damro(2.0, 0.05, top=3), streams, set_apart(2.0, 0.05))


@pytest.mark.parametrize("kind", ["instructblip", "blip_2"])
def test_a_q_former_is_given_the_outliers_alone(model_of, picture, by_hand, uncached, two_passes, set_apart, kind):
    """The chosen patches are cut out of what the vision tower hands over."""
    model = model_of(kind)
    prompt = model.prepare(picture(), "What is there?")
    patterns, _ = towers(model, prompt, by_hand, model.family.vision)
    looks = patterns[-2].mean(1)[0, 0, 1:]
    chosen = looks.argsort(descending=True)[:3]
    assert set(Damro(top=3).outliers(model, prompt)[0].nonzero().flatten().tolist()) == set(chosen.tolist())
    module = untapped(kind)

    def cut(_, __, output):
        output.last_hidden_state = output.last_hidden_state[:, 1 + chosen.sort().values]
        return output

    module.vision_model.register_forward_hook(cut)
    inputs = model.inputs([prompt])
    streams = uncached(model, inputs), uncached(model, inputs, module)
    two_passes(model, prompt, Damro(2.0, 0.05, top=3), streams, set_apart(2.0, 0.05))


def test_a_token_has_the_attention_of_the_patches_it_merges():
    looks = torch.arange(16.0).view(1, 16)
    assert_close(merge_patches(looks, 4), torch.tensor([[10.0, 18.0, 42.0, 50.0]]))
    assert_close(merge_patches(looks, 16), looks)
    assert_close(merge_patches(looks.repeat(2, 1), 8)[1], merge_patches(looks, 4)[0])
    for count in (17, 5, 9):
        with pytest.raises(ValueError, match=f"has 1 × 16 patches and the prompt {count} image tokens"):
            merge_patches(looks, count)


def test_hidden_tokens_take_no_position(model_of, picture):
    prompt = model_of("llava").prepare(picture(), "What is there?")
    image = prompt.layout.positions(Segment.IMAGE)
    kept = torch.zeros(len(image), dtype=torch.bool)
    kept[[2, 5]] = True
    inputs = keep_image_tokens(prompt, kept).inputs
    assert int(inputs["attention_mask"].sum()) == len(prompt) - len(image) + 2
    seen = inputs["attention_mask"][0].bool()
    assert inputs["position_ids"][0, seen].tolist() == list(range(int(seen.sum())))
    assert bool(prompt.inputs["attention_mask"].all())


def test_published_numbers_are_shares_of_the_image(model_of, picture):
    for kind, count in (("llava", 1), ("internvl", 1), ("instructblip", 1)):
        found = Damro().outliers(model_of(kind), model_of(kind).prepare(picture(40, 40), "What?"))
        assert found.sum(1).tolist() == [count] * len(found)


def test_the_layer_is_the_one_the_language_model_is_fed_from(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    assert model.config.vision_feature_layer == -2
    assert torch.equal(Damro(top=4).outliers(model, prompt), Damro(top=4, layer=1).outliers(model, prompt))
    rows = [class_attention(model, prompt, layer, "pattern") for layer in (0, 1, 2)]
    assert rows[0].shape == (1, 4, 17)
    assert not torch.allclose(rows[1], rows[2])


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("qwen2", "this is a language model"),
        ("qwen2_5_vl", "its vision tower has no class token"),
        ("gemma3", "its vision tower has no class token"),
        ("llava_next", "it joins the tiles of an image"),
    ],
)
def test_models_it_does_not_fit_are_refused_with_the_reason(model_of, kind, why):
    assert why in Damro().refusal(model_of(kind))


def test_what_it_does_not_take(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    with pytest.raises(ValueError, match="at least one outlier, got top=0"):
        Damro(top=0)
    with pytest.raises(ValueError, match="keeps 16 outliers of 16, so nothing would be left out"):
        interp.generate(model, prompt, Damro(top=16))
    assert "layer=3 does not exist: its vision tower has layers 0..2" in Damro(layer=3).refusal(model)
