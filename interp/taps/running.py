"""The running pass: what is read and changed while the model runs, as a value in a context variable. Nothing of it stays on the model."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from interp.data.layout import Layout
from interp.data.tokens import EVERY, Tokens, tokens
from interp.interventions.base import Here, Intervention, Roles

ATTENTION_SITES = ("attn_scores", "pattern")
INSIDE = ("q", "k", "v", *ATTENTION_SITES, "z")
ROOM = 64
"""For how many tokens to come masks are made ahead."""
MANY = 1 << 18
"""How many entries are held, of values before and after a change, until they are compared."""


@runtime_checkable
class Place(Protocol):
    """Where a value of a stream can be seen: only while somebody listens does it come by."""

    part: str
    site: str
    layer: int

    def listen(self) -> None:
        """Let values come by until `leave`; several may listen."""

    def leave(self) -> None:
        """Listen no longer."""


class NothingChanged(UserWarning):
    """An intervention ran, or never ran, and the model computed what it would have computed without it."""


@final
class Conversations(Roles):
    """The layouts of a batch, left-padded to one length, growing as the replies grow."""

    def __init__(self, layouts: tuple[Layout, ...]) -> None:
        """Take one layout a sample, without padding."""
        self.layouts = layouts
        longest = max((len(x) for x in layouts), default=0)
        self.pads = [longest - len(x) for x in layouts]
        self.past, self.length, self.batch, self.device = 0, longest, len(layouts), torch.device("cpu")
        self.memo: dict[Any, Any] = {}
        self.foreseen: dict[Any, Any] = {}
        self.horizon = longest

    def advance(self, batch: int, past: int, new: int, device: torch.device) -> None:
        """Take note of what one forward pass of the decoder is given: `new` tokens behind `past` cached ones."""
        if batch != self.batch or device != self.device or past + new > self.horizon:
            self.foreseen.clear()
            self.horizon = past + new + ROOM
        self.past, self.length, self.batch, self.device = past, past + new, batch, device
        self.memo.clear()

    def mask(self, which: Tokens) -> Tensor:
        """Return which tokens a selection takes, on the model's device; padding is never taken."""
        if which not in self.memo:
            known = self._mask(which, self.length).to(self.device) if which.from_end else self.ahead(which)
            self.memo[which] = known[:, : self.length]
        return self.memo[which]

    def ahead(self, which: Tokens) -> Tensor:
        """Return `mask(which)` with the tokens up to the horizon, as replies that go on."""
        if which not in self.foreseen:
            self.foreseen[which] = self._mask(which, self.horizon).to(self.device)
        return self.foreseen[which]

    def needed(self, several: frozenset[Tokens]) -> list[bool]:
        """Say of every token whether any of some selections takes it in any sample; it waits for no device."""
        if several not in self.foreseen:
            moves = any(w.from_end for w in several)
            length = self.length if moves else self.horizon
            chosen = torch.cat([self._mask(w, length) for w in several]).any(0).tolist()
            if moves:
                return chosen
            self.foreseen[several] = chosen
        return self.foreseen[several][: self.length]

    def _mask(self, which: Tokens, length: int) -> Tensor:
        chosen = torch.zeros(len(self.layouts), length, dtype=torch.bool)
        for row, layout, pad in zip(chosen, self.layouts, self.pads, strict=True):
            known = length - pad if which.from_end else max(length - pad, which.reach)
            row[pad:] = which.mask(layout.grown_to(known))[: length - pad]
        return chosen.repeat_interleave(self.batch // max(len(self.layouts), 1), 0)


@final
@dataclass
class Fired:
    """What one intervention did in one pass.

    Args:
        intervention: which one.
        calls: how often it was called.
        layers: in which layers.
        largest: the largest absolute change of any entry.
        mean: the mean absolute change of an entry, over all calls.
        row_sum: how far the sum of a row of the pattern was from 1 at most, after the change.
    """

    intervention: Intervention
    calls: int = 0
    layers: set[int] = field(default_factory=set)
    largest: float = 0.0
    mean: float = 0.0
    row_sum: float = 0.0
    _entries: int = field(default=0, repr=False)
    _held: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)
    _largest: list[Tensor] = field(default_factory=list, repr=False)
    _total: list[Tensor] = field(default_factory=list, repr=False)
    _off: list[Tensor] = field(default_factory=list, repr=False)

    def note(self, before: Tensor, after: Tensor, here: Here) -> None:
        """Add one call; its values are held until there are enough to compare them at once."""
        self.calls += 1
        self.layers.add(here.layer)
        self._entries += before.numel()
        if after is not before and before.numel():
            self._held.append((before.detach(), after.detach()) if after.requires_grad else (before, after))
            if before.numel() * len(self._held) > MANY:
                self._compare()

    def _compare(self) -> None:
        """Take the figures of the values held; nothing is copied from the device."""
        held, self._held = self._held, []
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for pair in held:
            alike.setdefault(pair[0].shape[:-1], []).append(pair)
        with torch.no_grad():
            for pairs in alike.values():
                change = torch.cat([after for _, after in pairs], -1) - torch.cat([before for before, _ in pairs], -1)
                self._largest.append(torch.linalg.vector_norm(change, torch.inf, dtype=torch.float32))
                self._total.append(torch.linalg.vector_norm(change, 1, dtype=torch.float32))
            if self.intervention.site == "pattern" and held:
                sums = torch.cat([after.sum(-1, dtype=torch.float32).flatten() for _, after in held])
                self._off.append((sums - 1).abs().amax())

    def settle(self) -> None:
        """Bring the figures home."""
        self._compare()
        if self._largest:
            self.largest = max(self.largest, float(torch.stack(self._largest).nan_to_num(posinf=3e38).amax()))
            self.mean = float(torch.stack(self._total).double().sum()) / self._entries
            self.row_sum = float(torch.stack(self._off).amax()) if self._off else 0.0


@final
@dataclass
class Pass:
    """One run of the model as the taps see it.

    Args:
        roles: the tokens' roles, growing with the reply.
        interventions: interventions, applied in this order at each site.
        wanted: (part, site) pairs whose values the verb reads.
        layers: the decoder layers in which it reads them; all by default.
        rows: the query rows of scores and pattern that it reads.
        gradient: whether gradients flow, from the first of `layers` on.
        graded: at which decoder sites they begin, where nothing before has a gradient: the stream, or what the gradients are of.
        local: whether gradients stay within one position (see `interp.taps`).
        clean: keys and values (batch, kv_head, key, head_dim) of an undisturbed pass, by layer, which the rows that run now attend
            to in place of each other's, every row to its own as they are now.
        reader: called with every decoder value that the verb reads, where it was seen, after the changes; what it returns goes on.
        room: called with `pattern` or `pattern_grad`, layer and shape (batch, head, query, key); returns where such a large array is to
            be made, or None for anywhere.
        places: where the pass has to listen to see the values that it looks at.
        kept: values of the parts that have no gradients, by (part, site, layer), in the order they were seen.
        state: a dictionary that lives as long as the pass.
        still: the undisturbed pass that runs first and gives `clean` (see `interp.taps.clean_run`), where a change acts behind clean keys.
        undisturbed: whether this is such a pass: changes behind clean keys only look, and nothing enters the audit.
        beside: a dictionary for the changes behind clean keys, which the undisturbed pass shares.
        copied: whether the verb copies what it keeps of scores, so that the pattern can be made in their place.
    """

    roles: Conversations
    interventions: tuple[Intervention, ...] = ()
    wanted: frozenset[tuple[str, str]] = frozenset()
    layers: frozenset[int] | None = None
    rows: Tokens = EVERY
    gradient: bool = False
    graded: frozenset[str] = frozenset({"resid_pre"})
    local: bool = False
    clean: Mapping[int, tuple[Tensor, Tensor]] | None = None
    reader: Callable[[Tensor, Here], Tensor] | None = None
    room: Callable[[str, int, torch.Size], Tensor | None] | None = None
    places: Sequence[Place] = field(default=(), repr=False)
    kept: dict[tuple[str, str, int], list[Tensor]] = field(default_factory=dict)
    state: dict[Any, Any] = field(default_factory=dict)
    still: "Pass | None" = None
    undisturbed: bool = False
    beside: dict[Any, Any] = field(default_factory=dict)
    copied: bool = False
    audit: list[Fired] = field(default_factory=list)
    step: int = -1
    _shown: Tensor | None = None
    _listened: tuple[Place, ...] | None = field(default=None, repr=False)
    _looked: dict[tuple[str, str, int], bool] = field(default_factory=dict, repr=False)
    _inside: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict, repr=False)
    _wanted: dict[Any, frozenset[Tokens]] = field(default_factory=dict, repr=False)
    _acting: dict[tuple[str, str, int], tuple[list[Fired], bool]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Open one line of the audit per intervention."""
        self.audit = [Fired(c) for c in self.interventions]

    def reads(self, part: str, site: str, layer: int) -> bool:
        """Say whether the verb reads a site of a layer."""
        return (part, site) in self.wanted and (self.layers is None or layer in self.layers or part != "decoder")

    def _graded(self, part: str, site: str, layer: int) -> bool:
        known = self.layers is None or layer in self.layers or site == "resid_pre"
        return self.gradient and part == "decoder" and site in self.graded and known

    def looks(self, part: str, site: str, layer: int) -> bool:
        """Say whether anything reads or changes a site of a layer; found once."""
        place = (part, site, layer)
        if place not in self._looked:
            acting, read = self._place(*place)
            self._looked[place] = read or bool(acting) or self._graded(*place)
        return self._looked[place]

    def frees_scores(self, part: str, layer: int) -> bool:
        """Say whether nobody holds the scores of a layer once they were shown: they are read by a verb that copies, and not changed."""
        return self.copied and part == "decoder" and not self._place(part, "attn_scores", layer)[0]

    def stays_local(self, part: str, layer: int) -> bool:
        """Say whether gradients stay within one position there: from the first layer that is read on."""
        return self.local and part == "decoder" and (self.layers is None or layer >= min(self.layers))

    def inside(self, part: str, layer: int) -> frozenset[str]:
        """Return the attention sites of a layer that are read or changed; found once."""
        if (part, layer) not in self._inside:
            self._inside[part, layer] = frozenset(s for s in INSIDE if self.looks(part, s, layer))
        return self._inside[part, layer]

    def apart(self, part: str, layer: int) -> bool:
        """Say whether the rows of a layer attend to others than each other as they are now."""
        return part == "decoder" and (self.clean is not None or self.stays_local(part, layer))

    def _place(self, part: str, site: str, layer: int) -> tuple[list[Fired], bool]:
        """Return what acts at a site of a layer, and whether the verb reads it; found once."""
        place = (part, site, layer)
        if place not in self._acting:
            acting = [f for f in self.audit if f.intervention.acts_at(part, site, layer)]
            self._acting[place] = acting, self.reads(part, site, layer)
        return self._acting[place]

    def explicit_rows(self, part: str, layer: int, queries: int) -> Tensor | None:
        """Return which of the new query rows need explicit scores and pattern: indices, or None for all of them."""
        if self.clean is not None and part == "decoder":
            return None
        wanted = self._rows_wanted(part, layer)
        if not wanted:
            return torch.empty(0, dtype=torch.long)
        if part != "decoder" or EVERY in wanted:
            return None
        known, key = self.roles.memo, ("explicit", id(wanted), queries)
        if key not in known:
            chosen = self.roles.needed(wanted)[-queries:]
            rows = [i for i, needed in enumerate(chosen) if needed]
            known[key] = None if len(rows) == queries else torch.tensor(rows, dtype=torch.long)
        return known[key]

    def _rows_wanted(self, part: str, layer: int) -> frozenset[Tokens]:
        """Return the rows of a layer's scores and pattern that anything reads or changes; found once, one object for equal sets."""
        if (part, layer) not in self._wanted:
            places = [self._place(part, s, layer) for s in ATTENTION_SITES]
            reads = any(read for _, read in places) or self.stays_local(part, layer)
            wanted = frozenset(tokens(f.intervention.queries) for acting, _ in places for f in acting)
            wanted |= {self.rows} if reads else frozenset()
            self._wanted[part, layer] = self._wanted.setdefault(wanted, wanted)
        return self._wanted[part, layer]

    def place(self, name: str, part: str, layer: int, shape: torch.Size) -> Tensor | None:
        """Return where a pattern or its gradient is to be made; anywhere (None) where a change reads the pattern first."""
        changed = name == "pattern" and bool(self._place(part, "pattern", layer)[0])
        if self.room is None or changed or part != "decoder":
            return None
        return self.room(name, layer, shape)

    def again(self, reader: Callable[[Tensor, Here], Tensor]) -> "Pass":
        """Return this pass for running a part of it once more: same tokens and changes, a new state and an audit of its own."""
        return replace(self, reader=reader, state={}, _acting={})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While open, the values that this pass looks at come by."""
        if self._listened is None:
            self._listened = tuple(p for p in self.places if self.looks(p.part, p.site, p.layer))
        for place in self._listened:
            place.listen()
        try:
            yield
        finally:
            for place in self._listened:
                place.leave()

    @contextmanager
    def showing(self, rows: Tensor | None) -> Iterator[None]:
        """While open, the taps see only these of the new query rows."""
        before, self._shown = self._shown, rows
        try:
            yield
        finally:
            self._shown = before

    def here(self, part: str, site: str, layer: int, value: Tensor) -> Here:
        """Describe where a value was seen."""
        attention = site in ATTENTION_SITES
        heads = value.shape[1] if attention else value.shape[2] if value.ndim == 4 else 0
        if part != "decoder":
            rows = torch.arange(value.shape[-2] if attention else value.shape[1])
            return Here(
                part, layer, site, self.step, None, (0, value.shape[-1]), rows, heads, self.state, {}, value.device
            )
        key = ("rows", None if self._shown is None else id(self._shown), value.shape[1] if site == "logits" else None)
        known = self.roles.memo
        if key not in known:
            rows = torch.arange(self.roles.past, self.roles.length)
            rows = (
                rows[-value.shape[1] :]
                if site == "logits"
                else rows
                if self._shown is None
                else rows[self._shown.cpu()]
            )
            known[key] = rows, self._shown  # held, so that no other tensor gets its id in this step
        keys = value.shape[-1] if attention else value.shape[1]
        span = (self.roles.length - keys, self.roles.length)
        return Here(
            part, layer, site, self.step, self.roles, span, known[key][0], heads, self.state, known, value.device
        )

    def visit(self, part: str, site: str, layer: int, value: Tensor) -> Tensor:
        """Apply the changes that act here, and keep the value where the verb asked for it."""
        acting, read = self._place(part, site, layer)
        if acting:
            here = self.here(part, site, layer, value)
            for fired in acting:
                value = self._changed(fired, value, here)
        if not value.requires_grad and self._graded(part, site, layer):
            value = value.detach().requires_grad_()
        if part == "decoder":
            return self.reader(value, self.here(part, site, layer, value)) if read and self.reader else value
        if read:
            self.kept.setdefault((part, site, layer), []).append(value.detach())
        return value

    def _changed(self, fired: Fired, value: Tensor, here: Here) -> Tensor:
        apart = fired.intervention.behind_clean_keys
        changed = fired.intervention(value, replace(here, state=self.beside) if apart else here)
        if self.undisturbed:
            return value if apart else changed
        fired.note(value, changed, here)
        return changed

    def close(self) -> None:
        """Settle the audit, and warn of every intervention that changed nothing."""
        for fired in self.audit:
            fired.settle()
            if fired.largest == 0 and not fired.intervention.read_only:
                why = (
                    "it was never reached" if not fired.calls else f"its {fired.calls} calls left every value as it was"
                )
                warnings.warn(f"{fired.intervention} changed nothing: {why}", NothingChanged, stacklevel=4)


running: ContextVar[Pass | None] = ContextVar("running", default=None)


@contextmanager
def resumed(now: Pass) -> Iterator[Pass]:
    """Make a pass the running one for a while, without closing it; whatever happens inside, the one before is back afterwards."""
    token = running.set(now)
    try:
        with now.listening():
            yield now
    finally:
        running.reset(token)


@contextmanager
def run(now: Pass) -> Iterator[Pass]:
    """Make a pass the running one, and close it; whatever happens inside, the one before is back afterwards."""
    with resumed(now):
        yield now
    now.close()
