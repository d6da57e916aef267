"""The running pass: what observes and changes the model while it runs, in a context variable. Nothing of it stays on the model.

`run_pass(pass)` makes a pass the running one and closes it; `activate(pass)` does so without closing it, for a pass that goes on step
by step. While a pass runs, every tap asks it `visit(part, site, layer, value)`. `Reader` is the one door for values: `capture`,
`measure`, a decoding loop, a clean run and the second run of a layer each give the pass a reader.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from interp.data.sites import SCORE_SITES
from interp.interventions.here import Here, QueryRows
from interp.taps.audit import Audit
from interp.taps.masks import MaskCache
from interp.taps.site_table import LayerRecord, SiteTable
from interp.taps.spec import PassSpec
from interp.taps.state import CleanKeys, PassState

NO_ROWS = torch.empty(0, dtype=torch.long)
Reader = Callable[[Tensor, Here], Tensor]
"""Called with every value that a pass reads and where it is, after the interventions; what it returns goes on."""
Destination = Callable[[str, int, torch.Size], Tensor | None]
"""Called with `pattern` or `pattern_grad`, layer and shape (batch, head, query, key): the tensor to make it in, None for a new one."""


@runtime_checkable
class Attachable(Protocol):
    """A tap on the residual stream, which costs a hook and so has one only while somebody observes it."""

    part: str
    site: str
    layer: int

    def attach(self) -> None:
        """Let values pass through the tap until `detach`; may be called several times."""

    def detach(self) -> None:
        """Undo one `attach`."""


@final
@dataclass
class Pass:
    """One run of the model as the taps see it; `interp.models.model.Model.running` makes one.

    Args:
        state: step, conversations and scratch; only this class changes it.
        spec: what is read, changed and differentiated.
        table: that, by part and layer (`interp.taps.site_table.site_table`).
        reader: is given every value that is read.
        destination: where a large pattern is made.
        clean: keys and values that rows attend to in place of each other's (see `interp.taps.clean_run`).
        taps: the taps on the residual stream.
    """

    state: PassState
    spec: PassSpec = field(default_factory=PassSpec)
    table: SiteTable = field(default_factory=dict)
    reader: Reader | None = None
    destination: Destination | None = None
    clean: CleanKeys | None = None
    taps: Sequence[Attachable] = field(default=(), repr=False)
    masks: MaskCache = field(init=False, repr=False)
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        """Open the audit, and find the taps on the stream that observe something."""
        self.masks, self.audit = MaskCache(self.state.roles), Audit(self.spec.interventions)
        observed = {(*place, site) for place, record in self.table.items() for site in record.sites}
        self._attached = [t for t in self.taps if (t.part, t.layer, t.site) in observed]

    def observes(self, part: str, site: str, layer: int) -> bool:
        """Return whether anything reads or changes a site of a layer, or gradients begin there."""
        record = self.table.get((part, layer))
        return record is not None and site in record.sites

    def advance(self, batch: int, past: int, new: int, device: torch.device) -> None:
        """Go on to the next forward call of the decoder: `new` tokens behind `past` cached ones."""
        self.state.advance(batch, past, new, device)
        self.masks.renew()

    def visit(self, part: str, site: str, layer: int, value: Tensor) -> Tensor:
        """Return a value as this pass leaves it: after the interventions that act there, and as the reader hands it on."""
        record = self.table.get((part, layer))
        at = None if record is None else record.sites.get(site)
        if record is None or at is None:
            return value
        here = None
        if at.acting:
            here = self.here(part, site, layer, value)
            for position in at.acting:
                value = self._apply(position, value, here)
        if at.begins and not value.requires_grad:
            value = value.detach().requires_grad_()
        if at.read and self.reader is not None:
            return self.reader(value, here or self.here(part, site, layer, value))
        return value

    def _apply(self, position: int, value: Tensor, here: Here) -> Tensor:
        intervention = self.spec.interventions[position]
        behind = intervention.behind_clean_keys
        if behind:
            here = _with_state(here, self.state.shared)
        changed = intervention(value, here)
        if self.spec.clean:
            return value if behind else changed
        self.audit.note(position, value, changed, here.layer)
        return changed

    def here(self, part: str, site: str, layer: int, value: Tensor) -> Here:
        """Return where a value is."""
        shape, state, scores = value.shape, self.state, site in SCORE_SITES
        heads = shape[1] if scores else shape[2] if len(shape) == 4 else 0
        count, keys = (shape[2], shape[3]) if scores else (shape[1], shape[1])
        if part != "decoder":
            rows, span = QueryRows(torch.arange(count)), (0, shape[-1])
        else:
            rows, span = self.masks.new_rows, (state.roles.length - keys, state.roles.length)
            # The head may be given the last rows alone, and scores may be those of the eager rows.
            if site == "logits":
                rows = self.masks.query_rows(count)
            elif scores and count != len(rows.positions):
                rows = self.masks.query_rows(self.table[part, layer].rows)
        return Here(part, layer, site, state.step, span, rows, heads, state.scratch, self.masks, value.device)

    def eager_rows(self, record: LayerRecord | None, queries: int) -> Tensor | None:
        """Return which of the new query rows need eager scores and pattern: indices, or None for all of them."""
        if record is None:
            return NO_ROWS
        if record.rows is None:
            return None
        return self.masks.eager_rows(record.rows, queries) if record.rows else NO_ROWS

    def place(self, name: str, part: str, layer: int, shape: torch.Size) -> Tensor | None:
        """Return the tensor in which a pattern or its gradient is to be made; None for a new one, as where an intervention acts."""
        if self.destination is None or part != "decoder":
            return None
        record = self.table.get((part, layer))
        if name == "pattern" and record is not None and record.changes("pattern"):
            return None
        return self.destination(name, layer, shape)

    def again(self, reader: Reader) -> "Pass":
        """Return this pass for running a part of it once more: same tokens and interventions, a new scratch and an audit of its own."""
        state = PassState(self.state.roles, shared=self.state.shared, step=self.state.step)
        # The taps on the stream are attached already: this pass runs while the other one does.
        return Pass(state, self.spec, self.table, reader, self.destination, self.clean)

    @contextmanager
    def attach_taps(self) -> Iterator[None]:
        """While open, the values of the stream that this pass observes pass through their taps."""
        for tap in self._attached:
            tap.attach()
        try:
            yield
        finally:
            for tap in self._attached:
                tap.detach()

    def close(self) -> None:
        """Warn of every intervention that changed nothing."""
        self.audit.close()


def _with_state(here: Here, state: dict[Any, Any]) -> Here:
    return Here(
        here.part,
        here.layer,
        here.site,
        here.step,
        here.key_span,
        here.row_set,
        here.head_count,
        state,
        here.masks,
        here.device,
    )


running: ContextVar[Pass | None] = ContextVar("running", default=None)


@contextmanager
def activate(now: Pass) -> Iterator[Pass]:
    """Make a pass the running one for a while, without closing it; whatever happens inside, the one before is back afterwards."""
    token = running.set(now)
    try:
        with now.attach_taps():
            yield now
    finally:
        running.reset(token)


@contextmanager
def run_pass(now: Pass) -> Iterator[Pass]:
    """Make a pass the running one, and close it; whatever happens inside, the one before is back afterwards."""
    with activate(now):
        yield now
    now.close()
