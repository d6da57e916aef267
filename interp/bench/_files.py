"""Questions and images in files; a line that cannot be read is reported with file and line, and left out."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from PIL import Image

from interp.bench.base import Sample
from interp.data.images import read_image
from interp.registry import nearest


@final
@dataclass(frozen=True)
class LoadedSamples:
    """The samples of files.

    Args:
        samples: the samples that could be read.
        problems: the records that could not be read, one line each, with file and line.
    """

    samples: tuple[Sample, ...] = ()
    problems: tuple[str, ...] = field(default=())


def require_file(path: str | Path) -> Path:
    """Return an existing file.

    Raises:
        FileNotFoundError: the file is missing; names the nearest existing one.
    """
    path = Path(path)
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no file {path}{nearest(path.name, there)}")
    return path


def read_records(path: str | Path) -> list[tuple[str, Any]]:
    """Return the records of a file with their places: one JSON object per line, or one JSON array in any layout.

    A line that is not JSON is returned as its error.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the array is not valid JSON; names the line.
    """
    path = require_file(path)
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            return [(f"{path}, item {i}", r) for i, r in enumerate(json.loads(text), 1)]
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    return [(f"{path}, line {i}", _line(line)) for i, line in enumerate(text.splitlines(), 1) if line.strip()]


def _line(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return error


def load_samples(
    paths: Sequence[str], sample_of: Callable[[str, Mapping[str, Any]], Sample], fields: Sequence[str]
) -> LoadedSamples:
    """Return the samples of files.

    Args:
        paths: the files.
        sample_of: makes a sample from a path and a record; raises ValueError for a record that it cannot use.
        fields: the fields of every record.

    Raises:
        FileNotFoundError: a file is missing.
    """
    samples: dict[str, Sample] = {}
    places: dict[str, str] = {}
    problems = []
    for path in paths:
        for where, record in read_records(path):
            try:
                sample = sample_of(path, _complete(record, fields))
                if sample.id in samples:
                    raise ValueError(f"the id {sample.id!r} is taken: {places[sample.id]} has it already")
            except ValueError as error:
                problems.append(f"{where}: {error}")
                continue
            samples[sample.id], places[sample.id] = sample, where
    return LoadedSamples(tuple(samples.values()), tuple(problems))


def _complete(record: Any, fields: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(record, json.JSONDecodeError):
        raise ValueError(f"not JSON: {record.msg}")
    if not isinstance(record, dict):
        raise ValueError(f"an object with {', '.join(fields)} was expected, got {json.dumps(record)[:60]}")
    missing = [f for f in fields if f not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; a record has {', '.join(fields)}")
    return record


def require_samples(loaded: LoadedSamples, *, strict: bool) -> Sequence[Sample]:
    """Return the samples; records that could not be read give a warning, or an error with `strict`.

    Raises:
        ValueError: no record could be read, or one could not be read and `strict` is set.
    """
    if loaded.problems and (strict or not loaded.samples):
        raise ValueError(f"data that cannot be used:\n{_shown(loaded.problems)}")
    if not loaded.samples:
        raise ValueError("the files hold no records")
    if loaded.problems:
        warnings.warn(f"left out (strict_files=True refuses):\n{_shown(loaded.problems)}", stacklevel=3)
    return loaded.samples


def _shown(problems: Sequence[str], most: int = 5) -> str:
    more = f"\n... and {len(problems) - most} more" if len(problems) > most else ""
    return "\n".join(problems[:most]) + more


def open_image(folder: str | Path, name: str) -> Image.Image:
    """Return an image of a folder.

    Raises:
        FileNotFoundError: no folder was given, or the folder or the image is missing; names the nearest existing image.
    """
    if not str(folder) or not Path(folder).is_dir():
        given = f"no folder {folder}" if str(folder) else "no folder of images was given"
        raise FileNotFoundError(f"{given}: set images= to the folder that contains {name}")
    path = Path(folder, name)
    if not path.is_file():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"no image {name} in {folder}{nearest(path.name, there)}; it holds {len(there)} files")
    return read_image(path)
