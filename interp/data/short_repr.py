"""One-line text forms of dataclasses (`short_repr`), for consoles, error messages and logs.

An array is shown as its dtype, axes and sizes, without its values (`array_repr`); a long tuple is cut, with its length; a field with its
default value is left out.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final

from torch import Tensor, nn

LONGEST_TEXT: Final = 60
"""Characters of a text that are shown."""
SHOWN_ENTRIES: Final = 6
"""Entries of a sequence or a mapping that are shown."""


def short_repr(value: Any) -> str:
    """Return a dataclass in one line: the fields with `repr=True` whose values differ from their defaults."""
    shown = [f for f in fields(value) if f.repr and not _is_default(f, getattr(value, f.name))]
    named = [f"{f.name}={_short(getattr(value, f.name), getattr(f.type, 'dim_str', ''))}" for f in shown]
    return f"{type(value).__name__}({', '.join(named)})"


def set_short_repr(cls: type) -> None:
    """Set `short_repr` as the `__repr__` of a class without its own, before the dataclass decorator, which keeps it."""
    if "__repr__" not in vars(cls):
        cls.__repr__ = short_repr  # type: ignore[method-assign, assignment]


def _is_default(field: Field[Any], value: Any) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    plain = not isinstance(value, Tensor) and not isinstance(default, Tensor)
    return plain and type(value) is type(default) and bool(value == default)


def _short(value: Any, axes: str = "") -> str:
    if isinstance(value, Tensor):
        return array_repr(value, axes)
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
    first = list(value)[:SHOWN_ENTRIES]
    if isinstance(value, Mapping):
        return "{" + _cut([f"{n!r}: {_short(value[n])}" for n in first], len(value)) + "}"
    inside = _cut([_short(v) for v in first], len(value))
    return f"[{inside}]" if isinstance(value, list) else f"({inside},)" if len(value) == 1 else f"({inside})"


def array_repr(value: Tensor, axes: str = "") -> str:
    """Return the dtype and sizes of an array, with the names of its axes if they are known: `float32[layer 2, head 3]`."""
    kind = str(value.dtype).removeprefix("torch.")
    names = axes.split() if len(axes.split()) == value.ndim else [""] * value.ndim
    return f"{kind}[{', '.join(f'{n} {s}'.strip() for n, s in zip(names, value.shape, strict=True))}]"


def _cut(entries: Sequence[str], count: int) -> str:
    return ", ".join(entries) + (f", ... {count} in all" if count > len(entries) else "")
