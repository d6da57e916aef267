import numpy as np
import pytest
import torch

import interp
from interp.families.base import family
from interp.plot.overlay import overlay


def loaded(kind):
    module, processor = family(kind).tiny()
    return interp.load(module, processor=processor)


def lit(size, box):
    picture = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    x0, y0, x1, y1 = (int(edge) for edge in box)
    picture[y0:y1, x0:x1] = 255
    return picture


@pytest.mark.parametrize("kind", ["instructblip", "blip_2"])
@pytest.mark.parametrize("size", [(56, 28), (28, 84)], ids=["wide", "tall"])
def test_each_key_of_the_cross_attention_saw_the_patch_that_its_box_says(kind, size):
    model = loaded(kind)
    embeddings = model.module.get_submodule(model.family.vision).embeddings
    dark = model.prepare(np.zeros((size[1], size[0], 3), dtype=np.uint8), "What is it?")
    places = model.patch_layout(dark).places()
    for token in (1, 7, 11):
        bright = model.prepare(lit(size, places[token].box), "What is it?")
        with torch.no_grad():
            change = embeddings(bright.inputs["pixel_values"]) - embeddings(dark.inputs["pixel_values"])
        assert int(change[0].norm(dim=-1).argmax()) - 1 == token


def test_the_cross_attention_is_drawn_on_the_image():
    model = loaded("instructblip")
    picture = lit((56, 28), (0, 0, 14, 7))
    prompt = model.prepare(picture, "What is it?")
    seen = interp.capture(model, prompt, want={"cross.pattern"})["cross.pattern"]
    layout = model.patch_layout(prompt)
    assert seen.shape[-1] == len(layout) + 1
    assert overlay(picture, seen[-1].mean((0, 1))[1:], layout).get_xlim() == (0, 56)


def test_only_a_qformer_has_a_layout_of_patches():
    model = loaded("llava")
    with pytest.raises(ValueError, match=r"has no Q-Former.*prompt.layout.places"):
        model.patch_layout(model.prepare(np.zeros((28, 28, 3), dtype=np.uint8), "What?"))
