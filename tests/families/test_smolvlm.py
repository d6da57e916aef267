from dataclasses import replace

import pytest
from transformers.models.smolvlm import processing_smolvlm

from interp.families.base import family


def test_grids_follow_the_tiles(check_grids):
    check_grids("smolvlm", [(126, 126)], [(140, 40)], [(43, 140)], [(200, 20)], [(11, 7)])


def test_grids_of_two_images(check_grids):
    check_grids("smolvlm", [(100, 30), (60, 90)])


def test_model(check_model):
    check_model("smolvlm")


def test_tiny_leaves_transformers_as_it_was(monkeypatch):
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    family("smolvlm").tiny()
    assert processing_smolvlm.num2words is None


def test_the_check_refuses_wrong_grids(check_grids):
    def transposed(view):
        grids = family("smolvlm").grids(view)
        return tuple(replace(g, box=(g.box[1], g.box[0], g.box[3], g.box[2])) for g in grids)

    with pytest.raises(AssertionError):
        check_grids("smolvlm", [(140, 43)], grids=transposed)
