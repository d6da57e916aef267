from dataclasses import replace

import pytest

from interp.families.base import family


def test_grids_follow_the_tiles(check_grids):
    check_grids("idefics3", [(126, 126)], [(140, 40)], [(43, 140)], [(200, 20)], [(11, 7)])


def test_grids_of_two_images(check_grids):
    check_grids("idefics3", [(100, 30), (60, 90)])


def test_grids_where_one_tile_is_enough(check_grids, tiny, monkeypatch):
    images = tiny("idefics3")[1].image_processor
    monkeypatch.setattr(images, "size", {"longest_edge": 40})
    check_grids("idefics3", [(140, 43)])
    monkeypatch.setattr(images, "do_image_splitting", False)
    monkeypatch.setattr(images, "size", {"longest_edge": 126})
    check_grids("idefics3", [(43, 140)])


@pytest.mark.parametrize("longest", [50, 90, 100])
def test_grids_follow_the_second_resize(check_grids, tiny, monkeypatch, longest):
    monkeypatch.setattr(tiny("idefics3")[1].image_processor, "size", {"longest_edge": longest})
    check_grids("idefics3", [(100, 84)], [(70, 100)], [(100, 41)])


def test_model(check_model):
    check_model("idefics3")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda grids: [replace(g, box=(g.box[1], g.box[0], g.box[3], g.box[2])) for g in grids],
        lambda grids: [grids[-1], *grids[:-1]],
        lambda grids: [replace(g, box=h.box) for g, h in zip(grids, [grids[1], grids[0], *grids[2:]], strict=True)],
    ],
    ids=["transposed boxes", "whole image first", "swapped tiles"],
)
def test_the_check_refuses_wrong_grids(check_grids, wrong):
    with pytest.raises(AssertionError):
        check_grids("idefics3", [(140, 43)], grids=lambda view: tuple(wrong(family("idefics3").grids(view))))
