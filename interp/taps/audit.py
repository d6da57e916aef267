"""The audit of a pass: what every intervention did, and a warning of those that did nothing."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final, overload

import torch
from torch import Tensor

from interp.data import display
from interp.interventions.base import Intervention

HELD_ENTRIES = 1 << 18
"""How many entries of values before and after are held until they are compared at once: in decoding, comparing costs more than holding."""


class NothingChanged(UserWarning):
    """An intervention ran, or never ran, and the model computed what it would have computed without it."""


@final
@dataclass(frozen=True)
class Fired:
    """What one intervention did in one pass. NaN in a changed value is reported as NaN.

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
    layers: frozenset[int] = frozenset()
    largest: float = 0.0
    mean: float = 0.0
    row_sum: float = 0.0

    def __repr__(self) -> str:
        """Return the figures rounded; the attributes hold them in full."""
        layers = ", ".join(map(str, sorted(self.layers)))
        sums = f", row sums off by up to {self.row_sum:.3g}" if self.intervention.site == "pattern" else ""
        return (
            f"{self.intervention}: {self.calls} calls in layers [{layers}], "
            f"largest change {self.largest:.3g}, mean {self.mean:.3g}{sums}"
        )


@final
class _Tally:
    """The figures of one intervention while they come in."""

    def __init__(self, intervention: Intervention) -> None:
        self.intervention, self.calls, self.layers, self.entries = intervention, 0, set[int](), 0
        self.held: list[tuple[Tensor, Tensor]] = []
        self.largest: list[Tensor] = []
        self.total: list[Tensor] = []
        self.off: list[Tensor] = []

    def note(self, before: Tensor, after: Tensor, layer: int) -> None:
        """Add one call; its values are held until there are enough to compare them at once."""
        size = before.numel()
        self.calls += 1
        self.layers.add(layer)
        self.entries += size
        if after is not before and size:
            self.held.append((before.detach(), after.detach()) if after.requires_grad else (before, after))
            if size * len(self.held) > HELD_ENTRIES:
                self.compare()

    def compare(self) -> None:
        """Compare the values held; nothing is copied from the device."""
        held, self.held = self.held, []
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for pair in held:
            alike.setdefault(pair[0].shape[:-1], []).append(pair)
        with torch.no_grad():
            for pairs in alike.values():
                change = torch.cat([after for _, after in pairs], -1) - torch.cat([before for before, _ in pairs], -1)
                self.largest.append(torch.linalg.vector_norm(change, torch.inf, dtype=torch.float32))
                self.total.append(torch.linalg.vector_norm(change, 1, dtype=torch.float32))
            if self.intervention.site == "pattern" and held:
                sums = torch.cat([after.sum(-1, dtype=torch.float32).flatten() for _, after in held])
                self.off.append((sums - 1).abs().amax())

    def fired(self) -> Fired:
        """Return the figures so far, fetched from the device."""
        self.compare()
        figures = (0.0, 0.0, 0.0)
        if self.largest:
            total = float(torch.stack(self.total).double().sum())
            off = float(torch.stack(self.off).amax()) if self.off else 0.0
            # Infinity is capped, so that it is a JSON number; NaN stays NaN and is seen.
            largest = torch.stack(self.largest).nan_to_num(nan=torch.nan, posinf=3e38)
            figures = float(largest.amax()), total / self.entries, off
        return Fired(self.intervention, self.calls, frozenset(self.layers), *figures)


@final
class Audit(Sequence[Fired]):
    """What every intervention of a pass did, in the order in which they were given."""

    def __init__(self, interventions: Sequence[Intervention]) -> None:
        """Open one line per intervention."""
        self._lines = tuple(map(_Tally, interventions))

    @overload
    def __getitem__(self, index: int) -> Fired: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Fired, ...]: ...
    def __getitem__(self, index: int | slice) -> Fired | tuple[Fired, ...]:
        """Return what one intervention did, or several."""
        chosen = self._lines[index]
        return chosen.fired() if isinstance(chosen, _Tally) else tuple(line.fired() for line in chosen)

    def __len__(self) -> int:
        """Return the number of interventions."""
        return len(self._lines)

    def __iter__(self) -> Iterator[Fired]:
        """Go through the interventions."""
        return (line.fired() for line in self._lines)

    def __repr__(self) -> str:
        """Return one line per intervention, figures rounded."""
        return "\n".join(map(repr, self)) or "no intervention"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        heads = ("intervention", "calls", "layers", "largest change", "mean change", "row sums off by")
        rows = [
            (
                str(f.intervention),
                f.calls,
                ", ".join(map(str, sorted(f.layers))),
                *_rounded(f.largest, f.mean, f.row_sum),
            )
            for f in self
        ]
        return display.card("Audit", display.table_html(heads, rows))

    def note(self, position: int, before: Tensor, after: Tensor, layer: int) -> None:
        """Add one call of the intervention at a position."""
        self._lines[position].note(before, after, layer)

    def close(self) -> None:
        """Warn of every intervention that changed nothing."""
        for fired in self:
            if fired.largest == 0 and not fired.intervention.read_only:
                why = (
                    "it was never reached" if not fired.calls else f"its {fired.calls} calls left every value as it was"
                )
                warnings.warn(f"{fired.intervention} changed nothing: {why}", NothingChanged, stacklevel=5)


def _rounded(*figures: float) -> tuple[str, ...]:
    return tuple(f"{x:.3g}" for x in figures)
