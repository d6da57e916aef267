from dataclasses import replace

import pytest
import torch
from PIL import Image

from interp.families.base import family


def test_grids_follow_the_image_whatever_its_shape(check_grids):
    check_grids("qwen2_5_vl", [(56, 56)], [(140, 43)], [(43, 140)], [(200, 20)], [(11, 7)], [(300, 220)])


def test_grids_of_two_images(check_grids):
    check_grids("qwen2_5_vl", [(100, 40), (30, 90)])


def test_model(check_model):
    check_model("qwen2_5_vl")


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
        check_grids(
            "qwen2_5_vl", [(140, 43)], grids=lambda view: tuple(wrong(g) for g in family("qwen2_5_vl").grids(view))
        )


def test_the_first_vision_layer_attends_within_windows(tiny):
    model, processor = tiny("qwen2_5_vl")
    seen, blocks = [], model.model.visual.blocks
    handles = [block.register_forward_hook(lambda _, __, output: seen.append(output)) for block in blocks]
    for light in (None, (0, 0, 7, 7)):
        image = Image.new("RGB", (84, 56))
        if light:
            image.paste((255, 255, 255), light)
        inputs = processor.image_processor([image], return_tensors="pt")
        with torch.no_grad():
            model.get_image_features(**inputs)
    for handle in handles:
        handle.remove()
    windowed, whole = (int(((a - b).abs().amax(-1) > 1e-6).sum()) for a, b in zip(seen[:2], seen[2:], strict=True))
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 12]]
    assert windowed == 16  # four by four patches
    assert whole == 96
