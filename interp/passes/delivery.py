"""Hands over the values of a pass and their gradients: to `capture`, which keeps them, or to `measure`, which reduces them."""

import functools
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from interp.data.sites import SCORE_SITES
from interp.interventions.here import Here

Take = Callable[[str, int, Tensor, Tensor | None], None]
"""Called with site, layer, value and gradient, without the batch axis; what it keeps of scores it copies."""


@final
class Delivery:
    """The reader of a pass that hands everything over as soon as it is known.

    A decoder value without gradient is taken in the forward pass, one with gradient in the backward pass, when its gradient arrives: held
    until the end, the gradient of a pattern would be kept beside that of the scores. Values of other parts are collected in `others`.

    Args:
        graded: the decoder sites whose gradient is wanted.
        queries: the positions of the rows of scores and pattern to hand over.
        take: takes values and gradients.
    """

    def __init__(self, graded: frozenset[str], queries: tuple[int, ...], take: Take) -> None:
        """Wait for nothing yet."""
        self.graded, self.queries, self.take = graded, queries, take
        self.others: dict[tuple[str, str, int], list[Tensor]] = {}
        self._waiting: dict[tuple[str, int], Tensor] = {}

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Hand a value over, or wait for its gradient."""
        site, layer = here.site, here.layer
        if here.part != "decoder":
            self.others.setdefault((here.part, site, layer), []).append(value.detach())
            return value
        own = value.detach()[0]
        rows = None
        if site in SCORE_SITES and own.shape[1] != len(self.queries):
            # An intervention has made the layer compute more rows than are read.
            have = here.rows.tolist()
            rows = [have.index(q) for q in self.queries]
            own = own[:, rows]
        if site not in self.graded:
            self.take(site, layer, own, None)
        else:
            self._waiting[site, layer] = own
            if value.requires_grad:
                value.register_hook(functools.partial(self._arrive, site, layer, rows))
        return value

    def _arrive(self, site: str, layer: int, rows: list[int] | None, slope: Tensor) -> None:
        own = slope[0] if rows is None else slope[0][:, rows]
        self.take(site, layer, self._waiting.pop((site, layer)), own)

    def again(self) -> "Delivery":
        """Return a delivery to the same taker that waits for nothing yet."""
        return Delivery(self.graded, self.queries, self.take)

    def finish(self) -> None:
        """Hand over what no gradient reached, as where an intervention cut it off: its gradient is zero."""
        while self._waiting:
            (site, layer), value = self._waiting.popitem()
            self.take(site, layer, value, torch.zeros_like(value))
