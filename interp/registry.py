"""Things of one kind, one file each, found by name: methods, benchmarks, analyses.

discover: every class of a kind in a package, so that a new file is picked up without an edit elsewhere.
concrete_names: their names alone, without an import.
build: the value that a name and settings stand for.
parse, split_list: names and settings from text such as `vaf:enhance=1.3,mode=abs`.
nearest: the suggestion in every message about an unknown name.
"""

import difflib
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_UNIT = re.compile(r"""\[[^\]]*\]|"[^"]*"|,|[^,\["]+|.""")
"""The units of a list in text: whole brackets and quotes, commas, and anything else."""


def discover(package: str, kind: type[T]) -> dict[str, type[T]]:
    """Return every concrete class of a kind that the modules of a package define, by name: `VisualAnchors` is `visual_anchors`."""
    found = {}
    for file in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{file.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module.__name__:
                found[_snake(value.__name__)] = value
    return {name: found[name] for name in sorted(found) if not inspect.isabstract(found[name])}


def concrete_names(folder: Path, base: str) -> list[str]:
    """Return the names that `discover` finds for classes directly below a base, from the source alone: for help that is instant."""
    sources = (file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py")))
    return sorted(_snake(n) for source in sources for n in re.findall(rf"^class (\w+)\({base}\b", source, re.MULTILINE))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def build(what: str, known: Mapping[str, type[T]], name: str, settings: Mapping[str, Any]) -> T:
    """Return the thing of a name with some of its settings; letter case, hyphens and underscores do not matter.

    Raises:
        ValueError: an unknown name or setting, or a missing setting; lists the known ones and suggests the nearest.
    """
    plain = {_plain(n): n for n in known}
    if _plain(name) not in plain:
        near = nearest(name.lower(), known)
        raise ValueError(f"no {what} {name!r}{near}; known: {', '.join(sorted(known))}")
    cls = known[plain[_plain(name)]]
    kinds = {f.name: f.type for f in fields(cls)}  # type: ignore[arg-type]
    allowed = ", ".join(kinds) or "none"
    for setting in settings:
        if setting not in kinds:
            raise ValueError(f"{name} has no setting {setting!r}{nearest(setting, kinds)}; settings: {allowed}")
    try:
        return cls(**{n: _settled(v, kinds[n]) for n, v in settings.items()})
    except TypeError as error:
        raise ValueError(f"{name} needs another setting: {error}; settings: {allowed}") from error


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def split_list(text: str) -> list[str]:
    """Return the entries of a list in text: `greedy,vaf:enhance=1.3,mode=abs,spear` has three.

    `NAME=VALUE` is a further setting of the entry before it; commas in brackets or quotes do not separate entries.
    """
    things: list[str] = []
    for piece in _pieces(text):
        if things and re.match(r"\w+=", piece):
            things[-1] += f",{piece}"
        else:
            things.append(piece)
    return things


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings in `NAME:SETTING=VALUE,...`.

    Values are parsed as JSON; anything that is not valid JSON is taken as a string.

    Raises:
        ValueError: a setting without `=`.
    """
    name, _, given = text.partition(":")
    settings = {}
    for part in _pieces(given):
        key, sign, value = part.partition("=")
        if not sign:
            raise ValueError(f"a setting is written NAME=VALUE, got {part!r} in {text!r}; for example vaf:enhance=1.3")
        try:
            settings[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            settings[key.strip()] = value.strip()
    return name.strip(), settings


def _pieces(text: str) -> list[str]:
    """Return the text split at the commas outside brackets and quotes."""
    pieces = [""]
    for unit in _UNIT.findall(text):
        if unit == ",":
            pieces.append("")
        else:
            pieces[-1] += unit
    return [p.strip() for p in pieces if p.strip()]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with the known name nearest to a name, or an empty string when none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _settled(value: Any, kind: Any) -> Any:
    """Return a setting in the type of its field: an integer as a float where the field is a float, lists as tuples."""
    return float(value) if kind is float and type(value) is int else _tuples(value)


def _tuples(value: Any) -> Any:
    """Return nested lists as nested tuples, because frozen settings must be hashable."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
