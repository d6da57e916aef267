"""Shared by the tests of benchmarks: annotations in the format of COCO."""

import json

import pytest


@pytest.fixture
def coco(tmp_path):
    """A folder of annotations in COCO's form: 30 images, each with a dog; the odd ones have captions of a cat."""

    def write(year=2014, name="COCO_val2014_{:012d}.jpg", split="val"):
        images = [{"id": i, "file_name": name.format(i)} for i in range(100, 130)]
        instances = [{"id": n, "image_id": 100 + n // 2, "category_id": 18} for n in range(60)]
        said = [
            {"id": n, "image_id": 100 + n // 5, "caption": "Two cats." if n // 5 % 2 else "Hm."} for n in range(150)
        ]
        head = {"info": {"year": year}, "images": images}
        kinds = {
            "instances": {"annotations": instances, "categories": [{"id": 18, "name": "dog"}]},
            "captions": {"annotations": said},
        }
        for kind, body in kinds.items():
            (tmp_path / f"{kind}_{split}2014.json").write_text(json.dumps({**head, **body}), encoding="utf-8")
        return str(tmp_path)

    return write
