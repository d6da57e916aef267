"""Changes to what attention carries: the value vectors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from interp.data import Selector
from interp.interventions import Here, Intervention, settled


@final
@dataclass(frozen=True)
class ZeroValues(Intervention):
    """Let some tokens be attended to as before but carry nothing: their value vectors are 0, in every row that reads them.

    The attention pattern stays as it is. The key-value cache stays clean; in decoding the edit is applied again at every step.
    Neutral when `keys` takes nothing.
    """

    keys: Selector
    layers: Iterable[int] | None = None
    site: ClassVar[str] = "v"

    def __post_init__(self) -> None:
        """Settle selector and layers."""
        settled(self, "keys")

    def __call__(
        self, value: Float[Tensor, "batch key kv_head head_dim"], here: Here
    ) -> Float[Tensor, "batch key kv_head head_dim"]:
        """Return the values, 0 at the chosen tokens."""
        return value.masked_fill(here.keys(self.keys), 0)
