"""Annotations of COCO 2014: what is in an image, and what five people said of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, final

YEAR: Final = 2014


@final
@dataclass(frozen=True)
class Annotated:
    """One image of COCO.

    Args:
        file: the name of its file.
        objects: the categories of its instances.
        captions: what people said of it.
    """

    file: str
    objects: tuple[str, ...]
    captions: tuple[str, ...]


@lru_cache(maxsize=2)
def annotated(folder: str, split: str) -> Mapping[int, Annotated]:
    """Return the images of `val` or `train` by id, in the order of their ids.

    Args:
        folder: holds instances_{split}2014.json and captions_{split}2014.json.
        split: which half.

    Raises:
        FileNotFoundError: a file is not there; says which are.
        ValueError: the annotations are of another year, or are no COCO annotations.
    """
    instances, captions = (_read(Path(folder), f"{kind}_{split}{YEAR}.json") for kind in ("instances", "captions"))
    names = {c["id"]: c["name"] for c in instances["categories"]}
    objects: dict[int, set[str]] = {}
    for instance in instances["annotations"]:
        objects.setdefault(instance["image_id"], set()).add(names[instance["category_id"]])
    said: dict[int, list[str]] = {}
    for caption in captions["annotations"]:
        said.setdefault(caption["image_id"], []).append(caption["caption"])
    return {
        i: Annotated(name, tuple(sorted(objects.get(i, ()))), tuple(said.get(i, ())))
        for i, name in sorted((image["id"], image["file_name"]) for image in captions["images"])
    }


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        there = sorted(p.name for p in folder.glob("*.json"))
        raise FileNotFoundError(
            f"no {name} in {folder}, which holds {', '.join(there) or 'no JSON file'}; CHAIR needs the instances and captions "
            f"of COCO {YEAR} (annotations_trainval{YEAR}.zip)"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        raise ValueError(f"{path} holds no COCO annotations: images and annotations were expected")
    year = content.get("info", {}).get("year", YEAR)
    strange = [i["file_name"] for i in content["images"] if f"{YEAR}_" not in i["file_name"]][:1]
    if year != YEAR or strange:
        raise ValueError(
            f"{path} is of another year: {f'year {year}' if year != YEAR else f'an image is called {strange[0]}'}; "
            f"images and annotations of {YEAR} were expected, such as COCO_val{YEAR}_000000000042.jpg"
        )
    return content
