"""COCO annotations: read by pycocotools, refused where they do not fit."""

import sys

import pytest

from interp.bench._coco import read_annotations
from interp.bench.chair import Chair


def test_annotations_of_another_year_are_refused(coco, tmp_path):
    with pytest.raises(
        ValueError, match=r"is from another year: year 2017; images and annotations of 2014 were expected"
    ):
        Chair(data=coco(year=2017)).samples()
    with pytest.raises(ValueError, match=r"is from another year: an image is called 000000000100.jpg"):
        Chair(data=coco(name="{:012d}.jpg")).samples()
    with pytest.raises(
        FileNotFoundError,
        match=r"no instances_train2014.json in .*, which holds captions_val2014.json, instances_val2014.json",
    ):
        Chair(data=str(tmp_path), split="train").samples()


@pytest.mark.parametrize(
    "content", ["[]", "{", "{}", '{"images": [], "annotations": [{"image_id": 1}]}', '{"images": [{"id": 1}]}']
)
def test_files_that_are_no_annotations_are_refused(coco, tmp_path, content):
    folder = coco()
    (tmp_path / "captions_val2014.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions_val2014.json holds no COCO annotations; images and annotations"):
        Chair(data=folder).samples()


def test_captions_in_place_of_instances_are_refused(coco, tmp_path):
    folder = coco()
    captions = (tmp_path / "captions_val2014.json").read_text(encoding="utf-8")
    (tmp_path / "instances_val2014.json").write_text(captions, encoding="utf-8")
    with pytest.raises(ValueError, match="do not fit together as COCO's instances and captions: no 'category_id'"):
        Chair(data=folder).samples()


def test_without_pycocotools_the_error_says_how_to_get_it(coco, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ModuleNotFoundError, match=r'need pycocotools .*: pip install "interp\[coco\]", or pass a file'):
        Chair(data=coco()).samples()


def test_every_image_has_its_objects_and_captions(coco):
    images = read_annotations(coco(), "val")
    assert list(images) == list(range(100, 130))
    assert images[101].file == "COCO_val2014_000000000101.jpg"
    assert images[101].objects == ("dog",)
    assert images[101].captions == ("Two cats.",) * 5
