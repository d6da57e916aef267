"""Short text forms of values: what a console, an error message or a log shows of a dataclass.

An array is shown as its type, its axes and its sizes, never by its numbers; a long tuple by its beginning and its length; a setting that
has its default not at all.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final

from torch import Tensor, nn

LONGEST_TEXT: Final = 60
"""Characters of a text that are shown."""
MOST_ENTRIES: Final = 6
"""Entries of a sequence or a mapping that are shown."""


def short_repr(value: Any) -> str:
    """Return a dataclass in one line: its fields that are part of its repr and differ from their defaults."""
    shown = [f for f in fields(value) if f.repr and not _is_default(f, getattr(value, f.name))]
    named = [f"{f.name}={_short(getattr(value, f.name), getattr(f.type, 'dim_str', ''))}" for f in shown]
    return f"{type(value).__name__}({', '.join(named)})"


def set_short_repr(cls: type) -> None:
    """Give a class that is about to become a dataclass this form, unless it defines one: the decorator keeps what is there."""
    if "__repr__" not in vars(cls):
        cls.__repr__ = short_repr  # type: ignore[method-assign, assignment]


def _is_default(field: Field[Any], value: Any) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    plain = not isinstance(value, Tensor) and not isinstance(default, Tensor)
    return plain and type(value) is type(default) and bool(value == default)


def _short(value: Any, axes: str = "") -> str:
    if isinstance(value, Tensor):
        return _array(value, axes)
    if isinstance(value, str):
        return repr(value) if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]!r}..."
    if is_dataclass(value) or isinstance(value, type):
        return repr(value)
    if isinstance(value, nn.Module) or callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, Mapping | Sequence | AbstractSet):
        return _several(value)
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _several(value: Mapping[Any, Any] | Sequence[Any] | AbstractSet[Any]) -> str:
    first = list(value)[:MOST_ENTRIES]
    if isinstance(value, Mapping):
        return "{" + _cut([f"{n!r}: {_short(value[n])}" for n in first], len(value)) + "}"
    inside = _cut([_short(v) for v in first], len(value))
    return f"[{inside}]" if isinstance(value, list) else f"({inside},)" if len(value) == 1 else f"({inside})"


def _array(value: Tensor, axes: str) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    names = axes.split() if len(axes.split()) == value.ndim else [""] * value.ndim
    return f"{kind}[{', '.join(f'{n} {s}'.strip() for n, s in zip(names, value.shape, strict=True))}]"


def _cut(entries: Sequence[str], count: int) -> str:
    return ", ".join(entries) + (f", ... {count} in all" if count > len(entries) else "")
