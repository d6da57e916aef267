"""Any function as an intervention, for experiments that need no kind of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from interp.data.sites import PARTS, SITES
from interp.data.tokens import EVERY, Selector
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here


@final
@dataclass(frozen=True)
class Apply(Intervention):
    """Replace the value at a site by a function of it.

    Args:
        site: one of `interp.data.sites.SITES`.
        function: from the value and `Here` to the new value; it must not modify the value in place.
        layers: the layers; all by default.
        queries: at scores and pattern, the rows that the function needs; it may receive more rows, which `here.queries(...)`
            tells apart.
        part: one of `interp.data.sites.PARTS`.
    """

    site: str  # type: ignore[misc]
    function: Callable[[Tensor, Here], Tensor]
    layers: Sequence[int] | None = None
    queries: Selector = EVERY
    part: str = "decoder"  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Put selectors and layers into canonical form.

        Raises:
            ValueError: an unknown site or part.
        """
        canonicalise(self, "queries")
        if self.site not in SITES or self.part not in PARTS:
            raise ValueError(
                f"site is one of {', '.join(SITES)} and part one of {', '.join(PARTS)}, got {self.site!r} and {self.part!r}"
            )

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the function of the value."""
        return self.function(value, here)

    def to_dict(self) -> dict[str, Any]:
        """Refuse: a function is not data.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "Apply holds a Python function, which cannot be written to a file; define an Intervention class to save it"
        )
