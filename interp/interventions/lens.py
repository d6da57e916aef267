"""Interventions on the logits by those read from earlier depths of the residual stream."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.tokens import EMITTING, Selector, Tokens
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here

Unembed = Callable[[Tensor], Tensor]
"""From the residual stream (..., dim) to logits (..., vocab)."""
LogitRule = Callable[[Tensor, Tensor], Tensor]
"""From the logits (batch, row, vocab) and those of earlier depths (depth, batch, row, vocab) to the new logits."""


@final
@dataclass(frozen=True, eq=False)
class CorrectLogits(Intervention):
    """Replace the logits of some rows by a function of them and of the logits at earlier depths of the residual stream.

    Args:
        depths: the depths, each the input of a layer; 0 is the embeddings.
        unembed: from the residual stream to logits, such as `model.unembed`.
        rule: from the logits and the earlier ones, in float32, to the new logits.
        queries: the rows.
    """

    depths: tuple[int, ...]
    unembed: Unembed = field(repr=False)
    rule: LogitRule
    queries: Selector = EMITTING
    site: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        """Put the selector into canonical form.

        Raises:
            ValueError: `depths` is empty.
        """
        canonicalise(self, "queries")
        if not self.depths:
            raise ValueError("give at least one depth at which to read the residual stream")

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: it reads the residual stream and changes the logits."""
        return part == self.part and (site == self.site or (site == "resid_pre" and layer in self.depths))

    def __call__(self, value: Float[Tensor, "batch token _"], here: Here) -> Float[Tensor, "batch token _"]:
        """Return the residual stream unchanged, and the corrected logits."""
        streams = here.state.setdefault(self, {})
        if here.site == "resid_pre":
            chosen = self._selected(here)
            streams[here.layer] = value if chosen is None else value[:, chosen.to(value.device)]
            streams["rows"] = here.rows if chosen is None else here.rows[chosen]
            return value
        rows = streams.pop("rows")
        seen = rows >= here.rows[0]  # the output head may receive the last rows alone
        at = (rows[seen] - here.rows[0]).to(value.device)
        if not len(at):
            return value
        early = torch.stack([self.unembed(streams.pop(d)[:, seen.to(value.device)]).float() for d in self.depths])
        new = self.rule(value[:, at].float(), early).to(value.dtype)
        return torch.where(here.queries(self.queries), value.index_copy(1, at, new), value)

    def to_dict(self) -> dict[str, Any]:
        """Refuse: a function is not data.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "CorrectLogits holds functions, which cannot be written to a file; save the settings of the method instead"
        )

    def _selected(self, here: Here) -> Tensor | None:
        """Return which of the new rows any sample selects; None for the single row of a decoding step."""
        if len(here.rows) == 1:
            return None
        return here.once(_selected_by_any, self.queries)


def _selected_by_any(here: Here, queries: Tokens) -> Tensor:
    return here.queries(queries).any(0).flatten().cpu().nonzero()[:, 0]
