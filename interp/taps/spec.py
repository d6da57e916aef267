"""What a pass is to do, as a value: what it reads, changes and differentiates, in which rows and layers."""

from dataclasses import dataclass
from typing import final

from interp.data.tokens import EVERY, Tokens
from interp.interventions.base import Intervention


@final
@dataclass(frozen=True)
class PassSpec:
    """What one run of the model reads and changes.

    Args:
        interventions: applied in this order at each site.
        reads: (part, site) pairs whose values the reader is given.
        layers: the decoder layers whose sites are read; all by default.
        rows: the query rows of scores and pattern that are read.
        gradient: whether gradients flow, from the first of `layers` on.
        begins: the decoder sites at which gradients begin where nothing before them has one: the stream, or the sites whose gradient is
            wanted, so that the backward pass ends there.
        local: whether gradients stay within one position (see `interp.taps.attention.own_key`).
        copies: whether the reader copies what it keeps of scores, so that the pattern may be made in their place.
        clean: whether this is a clean run: interventions behind clean keys see the values but change nothing, and nothing is audited.
    """

    interventions: tuple[Intervention, ...] = ()
    reads: frozenset[tuple[str, str]] = frozenset()
    layers: frozenset[int] | None = None
    rows: Tokens = EVERY
    gradient: bool = False
    begins: frozenset[str] = frozenset({"resid_pre"})
    local: bool = False
    copies: bool = False
    clean: bool = False
