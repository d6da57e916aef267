"""Interventions in a file: a list of kinds with their settings, in YAML or JSON. The command line reads such files.

A file written by hand looks like this:

    - kind: MaskAttention
      keys: SINKS
      queries: USER|RESPONSE
    - {kind: ScaleScores, keys: [0, 12], by: 0.5, mode: abs}
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from interp.interventions.base import Intervention, from_dict

_EXAMPLE = '[{"kind": "MaskAttention", "keys": "IMAGE"}]'


def read_interventions(path: str | Path) -> tuple[Intervention, ...]:
    """Return the interventions that a file describes, in its order.

    The file holds a list (or one entry) of mappings, each with a `kind` and the settings of that kind. A selection of tokens is
    written as in `to_dict`, as a position or list of positions, or by name: `IMAGE`, `USER|RESPONSE`, `EMITTING`, `SINKS`. A file
    whose name ends in `.json` is JSON, any other is YAML.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a list of mappings, or an unknown kind or setting, with the index of the entry and the nearest name.
    """
    text, is_json = Path(path).read_text(encoding="utf-8"), Path(path).suffix == ".json"
    try:
        data = json.loads(text) if is_json else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path} is not {'JSON' if is_json else 'YAML or JSON'} ({error}); expected for example {_EXAMPLE}"
        ) from error
    entries = [data] if isinstance(data, Mapping) else data
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ValueError(f"{path} does not hold a list of interventions; expected for example {_EXAMPLE}")
    interventions = []
    for index, entry in enumerate(entries):
        try:
            interventions.append(from_dict(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"entry {index} of {path}: {error}") from error
    return tuple(interventions)


def write_interventions(path: str | Path, interventions: Sequence[Intervention]) -> Path:
    """Write interventions to a file for `read_interventions`, as JSON if its name ends in `.json` and as YAML otherwise.

    Raises:
        TypeError: an intervention that holds a function or a tensor, which a text file cannot hold.
    """
    data: list[dict[str, Any]] = [c.to_dict() for c in interventions]
    try:
        text = json.dumps(data, indent=2)
    except TypeError as error:
        raise TypeError(f"an intervention that holds a tensor cannot be written to a text file: {error}") from error
    # Through JSON, because YAML has a notation of its own for tuples, which safe_load refuses.
    content = text if Path(path).suffix == ".json" else yaml.safe_dump(json.loads(text), sort_keys=False)
    Path(path).write_text(content, encoding="utf-8")
    return Path(path)
