"""Changes to the logits by what earlier layers would have said."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.tokens import EMITTING, Selector
from interp.interventions.base import Here, Intervention, canonicalise

Says = Callable[[Tensor], Tensor]
"""From a residual stream (..., dim) to the logits (..., vocab) of a head that reads it."""
Rule = Callable[[Tensor, Tensor], Tensor]
"""From the logits (batch, row, vocab) and those of the earlier streams (depth, batch, row, vocab) to the new logits."""


@final
@dataclass(frozen=True, eq=False)
class CorrectLogits(Intervention):
    """Replace the logits of some rows by a function of them and of what the residual stream said at some depths.

    Args:
        depths: which streams, as what enters a layer: 0 are the embeddings.
        says: what reads a stream, such as `model.unembed`.
        rule: from the logits and the earlier ones, in float32, to the new logits.
        queries: which rows.
    """

    depths: tuple[int, ...]
    says: Says = field(repr=False)
    rule: Rule
    queries: Selector = EMITTING
    site: ClassVar[str] = "logits"

    def __post_init__(self) -> None:
        """Settle the selector.

        Raises:
            ValueError: no depth.
        """
        canonicalise(self, "queries")
        if not self.depths:
            raise ValueError("give at least one depth to read the stream at")

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Say whether this acts at a site of a layer: it looks at the streams, and changes the logits."""
        return part == self.part and (site == self.site or (site == "resid_pre" and layer in self.depths))

    def __call__(self, value: Float[Tensor, "batch token _"], here: Here) -> Float[Tensor, "batch token _"]:
        """Return a stream as it is, and the logits corrected."""
        streams = here.state.setdefault((self, "streams"), {})
        if here.site == "resid_pre":
            taken = self._taken(here)
            streams[here.layer] = value if taken is None else value[:, taken.to(value.device)]
            streams["rows"] = here.rows if taken is None else here.rows[taken]
            return value
        rows = streams.pop("rows")
        seen = rows >= here.rows[0]  # the head may be given the last rows alone
        at = (rows[seen] - here.rows[0]).to(value.device)
        if not len(at):
            return value
        early = torch.stack([self.says(streams.pop(d)[:, seen.to(value.device)]).float() for d in self.depths])
        new = self.rule(value[:, at].float(), early).to(value.dtype)
        return torch.where(here.queries(self.queries), value.index_copy(1, at, new), value)

    def to_dict(self) -> dict[str, Any]:
        """Refuse: a function is no data.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "CorrectLogits holds functions, which cannot be written down; save the method's settings instead"
        )

    def _taken(self, here: Here) -> Tensor | None:
        """Return which of the new rows any sample takes; None for the one row of a decoding step."""
        if len(here.rows) == 1:
            return None
        return here.once(
            "taken", id(self), make=lambda: here.queries(self.queries).any(0).flatten().cpu().nonzero()[:, 0]
        )
