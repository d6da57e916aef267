from dataclasses import replace

import pytest

from interp.families.base import family


def test_grids_follow_the_image_whatever_its_shape(check_grids):
    check_grids("qwen2_vl", [(56, 56)], [(140, 43)], [(43, 140)], [(200, 20)], [(11, 7)], [(300, 220)])


def test_grids_of_two_images(check_grids):
    check_grids("qwen2_vl", [(100, 40), (30, 90)])


def test_model(check_model):
    check_model("qwen2_vl")


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
        check_grids("qwen2_vl", [(140, 43)], grids=lambda view: tuple(wrong(g) for g in family("qwen2_vl").grids(view)))
