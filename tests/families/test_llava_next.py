from dataclasses import replace

import pytest

from interp.families.base import family


def test_grids_follow_the_tiles_and_the_unpadding(check_grids):
    check_grids("llava_next", [(56, 56)], [(100, 41)], [(41, 97)], [(150, 20)], [(30, 133)], [(11, 7)])


def test_grids_of_two_images(check_grids):
    check_grids("llava_next", [(70, 40), (30, 90)])


def test_an_image_without_patches_is_refused(check_grids):
    with pytest.raises(ValueError, match="unpadding leaves no patch of the tiles of a 1 × 150 image"):
        check_grids("llava_next", [(1, 150)])


def test_model(check_model):
    check_model("llava_next")


def _other(change):
    return lambda view: tuple(change(grid) for grid in family("llava_next").grids(view))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: replace(g, rows=g.cols, cols=g.rows),
        lambda g: replace(g, box=(g.box[1], g.box[0], g.box[3], g.box[2])),
        lambda g: replace(g, newline=False),
        lambda g: replace(g, box=tuple(1.3 * x for x in g.box)),
    ],
    ids=["transposed grid", "transposed box", "no newlines", "scaled box"],
)
def test_the_check_refuses_wrong_grids(check_grids, wrong):
    with pytest.raises(AssertionError):
        check_grids("llava_next", [(150, 40)], grids=_other(wrong))
