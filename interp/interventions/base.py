"""Interventions: changes to a running model, as values.

An intervention is a frozen dataclass with one pure `__call__(value, here) -> value` at one site; `Intervention` is its base, and
`interp.interventions.here.Here` tells it where it is. `from_dict` reads back what `to_dict` wrote, and `canonicalise` is what every
intervention calls in its `__post_init__`.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

from torch import Tensor

from interp.data.heads import Heads
from interp.data.short_repr import set_short_repr
from interp.data.tokens import EVERY, Selector, Tokens, tokens
from interp.interventions.here import Here
from interp.registry import nearest


class Intervention(abc.ABC):
    """An intervention on one site of a running model. Final subclasses are frozen dataclasses.

    A subclass should have a neutral setting that changes nothing. `queries` selects the rows on which it acts, so that all other rows
    can stay on the fast path.
    """

    site: ClassVar[str]
    part: ClassVar[str] = "decoder"
    read_only: ClassVar[bool] = False
    """Whether it only records values for a rule on the next token, so that the audit does not warn that nothing changed."""
    layers: Sequence[int] | None = None
    queries: Selector = EVERY
    heads: Heads | None = None

    def __init_subclass__(cls) -> None:
        """Print settings that differ from their defaults alone, and arrays as their sizes."""
        set_short_repr(cls)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from interp.data import display

        return display.settings_card(self)

    @abc.abstractmethod
    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the new value; the given one must not be modified in place."""

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: its own site, in one of its layers, and in a layer of its heads if it has any."""
        if self.part != part or self.site != site or (self.layers is not None and layer not in self.layers):
            return False
        return self.heads is None or layer in self.heads.layers

    @property
    def behind_clean_keys(self) -> bool:
        """Whether rows see, for all positions but their own, the keys and values that the same pass computes without this.

        Each row of a teacher-forced pass then equals a step of decoding with a cache that this intervention has never affected; cached
        decoding behaves in the same way.
        """
        return False

    def selections(self) -> tuple[Tokens, ...]:
        """Return all settings that select tokens."""
        values = (getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return tuple(v for v in values if isinstance(v, Tokens))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict(...)`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{n: _plain(v) for n, v in values.items()}}


def kinds() -> dict[str, type[Intervention]]:
    """Return every kind of intervention by name: those of this package and all others that have been imported."""
    import importlib
    import pkgutil

    package = importlib.import_module("interp.interventions")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"interp.interventions.{module.name}")
    return {c.__name__: c for c in Intervention.__subclasses__()}


def from_dict(data: Mapping[str, Any]) -> Intervention:
    """Return the intervention described by data from `to_dict`.

    Raises:
        ValueError: an unknown kind or setting.
    """
    known = kinds()
    kind = data.get("kind")
    if kind not in known:
        raise ValueError(f"unknown intervention {kind!r}{nearest(str(kind), known)}; known: {', '.join(sorted(known))}")
    settings = {n: v for n, v in data.items() if n != "kind"}
    types = {f.name: f.type for f in fields(known[kind])}  # type: ignore[arg-type]
    for name in settings:
        if name not in types:
            raise ValueError(f"{kind} has no setting {name}{nearest(name, types)}; it has {', '.join(sorted(types))}")
    return known[kind](**{n: _meant(v, types[n] == Selector) for n, v in settings.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Tokens):
        return value.to_dict()
    if isinstance(value, Heads):
        return {"heads": [list(pair) for pair in value]}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _meant(value: Any, selects: bool) -> Any:
    if isinstance(value, str) and selects:
        return tokens(value)
    if isinstance(value, Mapping):
        return (
            Heads(tuple(tuple(pair) for pair in value["heads"])) if set(value) == {"heads"} else Tokens.from_dict(value)
        )
    return tuple(_meant(v, False) for v in value) if isinstance(value, list) else value


def canonicalise(intervention: Intervention, *selectors: str) -> None:
    """Put the settings of a frozen intervention into their canonical form; to be called in `__post_init__`.

    Layers become a tuple, selectors `Tokens`, heads `Heads`.

    Raises:
        ValueError: a negative layer.
    """
    if intervention.layers is not None:
        layers = (
            (intervention.layers,)
            if isinstance(intervention.layers, int)
            else tuple(int(i) for i in intervention.layers)
        )
        if any(i < 0 for i in layers):
            raise ValueError(f"layers are counted from 0, got {layers}")
        object.__setattr__(intervention, "layers", layers)
    if intervention.heads is not None:
        object.__setattr__(intervention, "heads", Heads(tuple(intervention.heads)))
    for name in selectors:
        object.__setattr__(intervention, name, tokens(getattr(intervention, name)))
