"""Things of one kind, one file each, found by name: methods, benchmarks."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def found(package: str, kind: type[T]) -> dict[str, type[T]]:
    """Return every class of a kind in a package by the name of its file, which is the lower-case name of the class."""
    files = [f.name for f in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    classes = {n: vars(importlib.import_module(f"{package}.{n}")).values() for n in files}
    own = {n: [c for c in there if isinstance(c, type) and c.__name__.lower() == n] for n, there in classes.items()}
    return {n: c[0] for n, c in own.items() if c and issubclass(c[0], kind)}


def made(what: str, known: Mapping[str, type[T]], name: str, settings: Mapping[str, Any]) -> T:
    """Return the thing of a name with some of its settings; letter case, hyphens and underscores do not matter.

    Raises:
        ValueError: no such thing or setting, or one that is missing; says which there are and what comes nearest.
    """
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in known:
        raise ValueError(f"no {what} {name!r}{nearest(plain, known)}; {what}s: {', '.join(sorted(known))}")
    allowed = [f.name for f in fields(known[plain])]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in allowed:
            raise ValueError(
                f"{name} has no setting {setting!r}{nearest(setting, allowed)}; settings: {', '.join(allowed)}"
            )
    try:
        return known[plain](**{n: _tuples(v) for n, v in settings.items()})
    except TypeError as error:
        raise ValueError(f"{name} needs another setting: {error}; settings: {', '.join(allowed)}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (do you mean ...?)" where something known is near, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (do you mean {close[0]}?)" if close else ""


def _tuples(value: Any) -> Any:
    """Return a list as a tuple, as frozen settings have it, also inside."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
