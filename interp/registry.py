"""Things of one kind, one file each, found by name: methods, benchmarks."""

import difflib
import importlib
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")

_UNIT = re.compile(r"""\[[^\]]*\]|"[^"]*"|,|[^,\["]+|.""")
"""What a list in words is made of: brackets and quotes whole, commas, and the rest."""


def discover(package: str, kind: type[T]) -> dict[str, type[T]]:
    """Return every class of a kind in a package by the name of its file, which is the lower-case name of the class."""
    files = [f.name for f in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    classes = {n: vars(importlib.import_module(f"{package}.{n}")).values() for n in files}
    own = {n: [c for c in there if isinstance(c, type) and c.__name__.lower() == n] for n, there in classes.items()}
    return {n: c[0] for n, c in own.items() if c and issubclass(c[0], kind)}


def build(what: str, known: Mapping[str, type[T]], name: str, settings: Mapping[str, Any]) -> T:
    """Return the thing of a name with some of its settings; letter case, hyphens and underscores do not matter.

    Raises:
        ValueError: no such thing or setting, or one that is missing; says which there are and what comes nearest.
    """
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in known:
        raise ValueError(f"no {what} {name!r}{nearest(plain, known)}; {what}s: {', '.join(sorted(known))}")
    kinds = {f.name: f.type for f in fields(known[plain])}  # type: ignore[arg-type]
    allowed = list(kinds)
    for setting in settings:
        if setting not in allowed:
            raise ValueError(
                f"{name} has no setting {setting!r}{nearest(setting, allowed)}; settings: {', '.join(allowed)}"
            )
    try:
        return known[plain](**{n: _settled(v, kinds[n]) for n, v in settings.items()})
    except TypeError as error:
        raise ValueError(f"{name} needs another setting: {error}; settings: {', '.join(allowed)}") from error


def split_list(text: str) -> list[str]:
    """Return the things of a list in words: `greedy,vaf:enhance=1.3,mode=abs,spear` names three.

    A piece `NAME=VALUE` is a further setting of the thing before it; commas in brackets or quotes part nothing.
    """
    things: list[str] = []
    for piece in _pieces(text):
        if things and re.match(r"\w+=", piece):
            things[-1] += f",{piece}"
        else:
            things.append(piece)
    return things


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings in `NAME:SETTING=VALUE,...`; values are JSON, and words that are none stay words.

    Raises:
        ValueError: a setting that is not written NAME=VALUE.
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
    """Return what stands between the commas that are in no brackets or quotes."""
    pieces = [""]
    for unit in _UNIT.findall(text):
        if unit == ",":
            pieces.append("")
        else:
            pieces[-1] += unit
    return [p.strip() for p in pieces if p.strip()]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (do you mean ...?)" where something known is near, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (do you mean {close[0]}?)" if close else ""


def _settled(value: Any, kind: Any) -> Any:
    """Return a setting as the thing has it: whole numbers as floats where it wants floats, lists as tuples."""
    return float(value) if kind is float and type(value) is int else _tuples(value)


def _tuples(value: Any) -> Any:
    """Return a list as a tuple, as frozen settings have it, also inside."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
