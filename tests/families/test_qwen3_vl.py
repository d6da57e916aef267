from dataclasses import replace

import pytest
import torch
from PIL import Image

from interp.families.base import family


def test_grids_follow_the_image_whatever_its_shape(check_grids):
    check_grids("qwen3_vl", [(56, 56)], [(140, 43)], [(43, 140)], [(200, 20)], [(11, 7)], [(300, 220)])


def test_grids_of_two_images(check_grids):
    check_grids("qwen3_vl", [(100, 40), (30, 90)])


def test_model(check_model):
    check_model("qwen3_vl")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: replace(g, rows=g.cols, cols=g.rows),
        lambda g: replace(g, box=(g.box[1], g.box[0], g.box[3], g.box[2])),
    ],
    ids=["transposed grid", "transposed box"],
)
def test_the_check_refuses_wrong_grids(check_grids, wrong):
    with pytest.raises(AssertionError):
        check_grids("qwen3_vl", [(140, 43)], grids=lambda view: tuple(wrong(g) for g in family("qwen3_vl").grids(view)))


def test_image_features_join_the_stream_after_the_first_two_layers(tiny):
    model, processor = tiny("qwen3_vl")
    text = processor.apply_chat_template(conversation(), add_generation_prompt=True)
    inputs = processor(text=[text], images=[Image.effect_noise((90, 40), 80).convert("RGB")], return_tensors="pt")
    entered, left, handles = [], [], []
    for layer in model.model.language_model.layers:
        handles.append(layer.register_forward_pre_hook(lambda _, args: entered.append(args[0][0])))
        handles.append(layer.register_forward_hook(lambda _, __, output: left.append(output[0])))
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    image = inputs["input_ids"][0] == model.config.image_token_id
    for before, after in zip(left[:-1], entered[1:], strict=True):
        moved = (after - before).abs().amax(-1)
        assert (moved[image] > 1e-3).all()
        assert (moved[~image] == 0).all()


def conversation():
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
