"""Annotations of COCO 2014: the objects and the captions of every image."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, Final, final

_YEAR: Final = 2014


@final
@dataclass(frozen=True)
class AnnotatedImage:
    """One image of COCO.

    Args:
        file: the name of its file.
        objects: the categories of its instances.
        captions: its captions.
    """

    file: str
    objects: tuple[str, ...]
    captions: tuple[str, ...]


@lru_cache(maxsize=2)
def read_annotations(folder: str, split: str) -> Mapping[int, AnnotatedImage]:
    """Return the images of `val` or `train` by id, in the order of their ids, as pycocotools reads them.

    Args:
        folder: the folder with instances_{split}2014.json and captions_{split}2014.json.
        split: `val` or `train`.

    Raises:
        FileNotFoundError: a file is missing; lists those that exist.
        ModuleNotFoundError: pycocotools is not installed.
        ValueError: the annotations are from another year, or are not COCO annotations.
    """
    paths = [_path(Path(folder), f"{kind}_{split}{_YEAR}.json") for kind in ("instances", "captions")]
    instances, captions = (_read(path) for path in paths)
    try:
        names = {i: category["name"] for i, category in instances.cats.items()}
        objects = {i: {names[a["category_id"]] for a in each} for i, each in instances.imgToAnns.items()}
        texts = {i: tuple(a["caption"] for a in each) for i, each in captions.imgToAnns.items()}
    except KeyError as error:
        raise ValueError(
            f"{paths[0]} and {paths[1]} do not fit together as COCO's instances and captions: no {error}"
        ) from error
    return {
        i: AnnotatedImage(image["file_name"], tuple(sorted(objects.get(i, ()))), texts.get(i, ()))
        for i, image in sorted(captions.imgs.items())
    }


def _path(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        there = sorted(p.name for p in folder.glob("*.json"))
        raise FileNotFoundError(
            f"no {name} in {folder}, which holds {', '.join(there) or 'no JSON file'}; CHAIR needs the instances and captions "
            f"of COCO {_YEAR} (annotations_trainval{_YEAR}.zip)"
        )
    return path


def _read(path: Path) -> Any:
    """Return a file as pycocotools reads it, without its printed output."""
    try:
        from pycocotools.coco import COCO
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'annotations of COCO need pycocotools ({error}): pip install "interp[coco]", or pass a file of JSON lines with '
            "image, objects and captions, which needs no package"
        ) from error
    try:
        with redirect_stdout(StringIO()):
            read = COCO(str(path))
        files = [image["file_name"] for image in read.dataset["images"]]
        read.dataset["annotations"]
    # pycocotools reports a file without a JSON object by an assertion
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no COCO annotations; images and annotations with their ids were expected: "
            f"{type(error).__name__}: {error}"
        ) from error
    year = (read.dataset.get("info") or {}).get("year", _YEAR)
    strange = [name for name in files if f"{_YEAR}_" not in name][:1]
    if year != _YEAR or strange:
        raise ValueError(
            f"{path} is from another year: {f'year {year}' if year != _YEAR else f'an image is called {strange[0]}'}; "
            f"images and annotations of {_YEAR} were expected, such as COCO_val{_YEAR}_000000000042.jpg"
        )
    return read
