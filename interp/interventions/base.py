"""Changes to a running model, as values: a frozen dataclass with one pure `__call__(value, here) -> value` at one site."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, EVERY, Selector, Tokens, tokens
from interp.registry import nearest

SITES = (
    "resid_pre",
    "q",
    "k",
    "v",
    "attn_scores",
    "pattern",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_out",
    "resid_post",
    "logits",
)
"""Where a value can be read or changed, in forward order."""
PARTS = ("decoder", "vision", "qformer", "cross")
"""Which attention: the decoder's, the vision tower's, the Q-Former's own and its cross-attention to the image."""

_SHAPES = {
    "attn_scores": ("batch", 1, "query", "key"),
    "pattern": ("batch", 1, "query", "key"),
    "k": ("batch", "key", 1, 1),
    "v": ("batch", "key", 1, 1),
    "q": ("batch", "query", 1, 1),
    "z": ("batch", "query", 1, 1),
}


class Roles(abc.ABC):
    """What a running pass knows about its tokens: which ones a selection takes, for every sample of the batch.

    `horizon` is up to which length the conversations are foreseen, and `foreseen` what was worked out of them so far.
    """

    horizon: int
    foreseen: dict[Any, Any]

    @abc.abstractmethod
    def mask(self, which: Tokens) -> Bool[Tensor, "batch token"]:
        """Return which tokens a selection takes; padding is never taken."""

    @abc.abstractmethod
    def ahead(self, which: Tokens) -> Bool[Tensor, "batch token"]:
        """Return `mask(which)` with the tokens up to the horizon, as replies that go on."""


@final
class _Ahead(Roles):
    """The tokens of conversations up to their horizon."""

    def __init__(self, roles: Roles) -> None:
        self.roles, self.horizon, self.foreseen = roles, roles.horizon, {}

    def mask(self, which: Tokens) -> Tensor:
        if which.from_end:
            raise _MovesError
        return self.ahead(which)

    def ahead(self, which: Tokens) -> Tensor:
        return self.roles.ahead(which)


@final
class _MovesError(Exception):
    """What a selection takes moves with the end of the conversation, so nothing can be made of it ahead."""


@final
@dataclass(frozen=True)
class Here:
    """Where in the model and in the conversation a value was seen. Masks broadcast against the value.

    Args:
        part: one of `PARTS`.
        layer: index of the block, from 0.
        site: one of `SITES`.
        step: 0 while the prompt is read, then the number of decoding steps so far.
        roles: the tokens' roles; None outside the decoder, where tokens have none.
        key_span: first and last-plus-one position of the keys.
        rows: position of every query row.
        head_count: how many heads the value has.
        state: a dictionary that lives as long as the pass, for what one layer must tell another.
        memo: a dictionary that lives as long as one forward call, for what is the same in every layer.
        device: where the value is.
    """

    part: str
    layer: int
    site: str
    step: int
    roles: Roles | None
    key_span: tuple[int, int]
    rows: Tensor
    head_count: int
    state: dict[Any, Any]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    device: torch.device | str = "cpu"

    def once(self, *key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, made once a forward call for the same key, rows and keys."""
        known = (*key, _SHAPES.get(self.site), id(self.rows), self.key_span)
        if known not in self.memo:
            self.memo[known] = make()
        return self.memo[known]

    def by_role(self, *key: Any, make: "Callable[[Here], Tensor]") -> Tensor:
        """Return what `make` makes of the tokens' roles and positions alone, shaped to broadcast against the value.

        Made once a forward call; in decoding, for many rows to come at once.
        """
        roles = self.roles
        if roles is None or self.step < 1 or len(self.rows) != 1:
            return self.once(*key, make=lambda: make(self))
        return self.once(*key, make=lambda: self._foreseen(roles, key, make))

    def _foreseen(self, roles: Roles, key: tuple[Any, ...], make: "Callable[[Here], Tensor]") -> Tensor:
        shape, row = _SHAPES.get(self.site, ("batch", "query", 1)), int(self.rows[0])
        known = (*key, shape)
        first, made = roles.foreseen.get(known, (row + 1, None))
        if first > row:
            rows = torch.arange(row, roles.horizon)
            there = replace(self, step=0, roles=_Ahead(roles), key_span=(0, roles.horizon), rows=rows, memo={})
            try:
                made = make(there)
            except _MovesError:
                made = None
            first = row
            roles.foreseen[known] = row, made
        if made is None:
            return make(self)
        spans = {"query": slice(row - first, row - first + 1), "key": slice(*self.key_span)}
        axes = zip(shape, made.shape, strict=False)
        return made[tuple(spans.get(str(a), slice(None)) if size > 1 else slice(None) for a, size in axes)]

    def keys(self, which: Selector) -> Bool[Tensor, "..."]:
        """Return which keys a selection takes, shaped to broadcast against the value."""
        chosen = tokens(which)
        return self.by_role(
            "keys", chosen, make=lambda here: here._shaped(here._mask(chosen)[:, slice(*here.key_span)], "key")
        )

    def queries(self, which: Selector) -> Bool[Tensor, "..."]:
        """Return which query rows a selection takes, shaped to broadcast against the value."""
        chosen = tokens(which)
        return self.by_role(
            "queries", chosen, make=lambda here: here._shaped(here._of_rows(here._mask(chosen)), "query")
        )

    def heads(self, chosen: Heads | None) -> Bool[Tensor, "..."] | bool:
        """Return which heads of this layer are chosen, shaped to broadcast against the value; True for None, which is all."""
        if chosen is None:
            return True
        axis = 1 if self.site in ("attn_scores", "pattern") else 2
        known = (chosen, self.layer, axis, self.head_count)
        if known not in self.state:
            mask = torch.zeros(self.head_count, dtype=torch.bool, device=self.device)
            mask[list(chosen.of_layer(self.layer))] = True
            self.state[known] = mask.view([-1 if i == axis else 1 for i in range(4)])
        return self.state[known]

    @property
    def positions(self) -> Int[Tensor, "batch query"]:
        """The position of every query row in its own conversation, padding not counted; negative in the padding."""
        mask = self._mask(EVERY)
        return self.rows.to(mask.device) - (~mask).sum(-1, keepdim=True)

    @property
    def visible(self) -> Bool[Tensor, "batch 1 query key"]:
        """Which keys each query row may look at in causal attention: no padding, nothing behind it."""

        def make(here: Here) -> Tensor:
            every = here.keys(EVERY)
            positions = torch.arange(*here.key_span, device=every.device)
            return every & (positions <= here.rows.to(every.device)[:, None])

        return self.by_role("visible", make=make)

    @property
    def emitting(self) -> Bool[Tensor, "..."]:
        """Which query rows emit a response token, shaped to broadcast against the value."""
        return self.queries(EMITTING)

    def _of_rows(self, mask: Tensor) -> Tensor:
        first, last = int(self.rows[0]), int(self.rows[-1])
        together = last - first + 1 == len(self.rows)  # then nothing is copied to the device
        return mask[:, first : last + 1] if together else mask[:, self.rows.to(mask.device)]

    def _mask(self, which: Selector) -> Tensor:
        if self.roles is None:
            raise ValueError(f"the {self.part} has no conversation: tokens cannot be selected by role there")
        return self.roles.mask(tokens(which))

    def _shaped(self, mask: Tensor, axis: str) -> Tensor:
        shape = _SHAPES.get(self.site, ("batch", "query", 1))
        if axis not in shape:
            raise ValueError(f"{self.site} has no {axis} axis")
        return mask.view([mask.shape[0] if a == "batch" else mask.shape[1] if a == axis else 1 for a in shape])


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
