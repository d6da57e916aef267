"""Interventions in a file: a list of kinds with their settings, in YAML or JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from interp.interventions.base import Intervention, from_dict


def load(path: str | Path) -> tuple[Intervention, ...]:
    """Return the interventions that a file describes, in its order.

    The file holds a list (or one entry) of mappings, each with a `kind` and that kind's settings. A selection of tokens is written
    as `to_dict` writes it, as a position or list of positions, or by name: `IMAGE`, `USER|RESPONSE`, `EMITTING`, `SINKS`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no list of mappings, or an unknown kind or setting; says which entry, and what comes nearest.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        data = json.loads(text) if Path(path).suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is neither YAML nor JSON: {error}") from error
    entries = [data] if isinstance(data, Mapping) else data
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ValueError(f"{path} holds no list of interventions, each a mapping with a kind and its settings")
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(from_dict(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"entry {index} of {path}: {error}") from error
    return tuple(found)


def save(path: str | Path, interventions: Sequence[Intervention]) -> Path:
    """Write interventions to a file that `load` reads back, JSON where its name ends so and YAML otherwise.

    Raises:
        TypeError: an intervention that holds a function or a tensor, which cannot be written down.
    """
    data: list[dict[str, Any]] = [c.to_dict() for c in interventions]
    try:
        text = json.dumps(data, indent=2)
    except TypeError as error:
        raise TypeError(f"an intervention that holds a tensor cannot be written to a text file: {error}") from error
    Path(path).write_text(
        text if Path(path).suffix == ".json" else yaml.safe_dump(json.loads(text), sort_keys=False), encoding="utf-8"
    )
    return Path(path)
