"""Several analyses in one pass: each layer is reduced when all its arrays have arrived, and released."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from torch import Tensor

from interp.analysis.base import QUERY_ARRAYS, Analysis, View
from interp.data.result import Result, check_finite

RowIndex = list[int] | slice | None
"""Some of the query rows of an array; None for all."""


@final
class Reduction:
    """The state of several analyses during one pass.

    Of scores and pattern, only the rows that some analysis reads are kept until the layer is complete.

    Args:
        analyses: the analyses.
        view: the conversation; its queries are the rows that will arrive.

    Raises:
        ValueError: an analysis needs rows that will not arrive, or that the conversation does not have.
    """

    def __init__(self, analyses: Sequence[Analysis], view: View) -> None:
        """Determine the rows of each array that each analysis reads."""
        self.analyses = tuple(analyses)
        self.views = [view.for_rows(a.rows)[1] for a in analyses]
        names = frozenset[str]().union(*map(arrays, analyses))
        held = {
            n: tuple(
                sorted({p for a, v in zip(analyses, self.views, strict=True) if n in arrays(a) for p in v.queries})
            )
            for n in names & QUERY_ARRAYS
        }
        self._waits_for = len(names)
        self._names = names
        self._held = {n: _among(view.queries, rows) for n, rows in held.items()}
        self._own = [
            {n: _among(held[n], v.queries) for n in arrays(a) & QUERY_ARRAYS}
            for a, v in zip(analyses, self.views, strict=True)
        ]
        self._waiting: dict[int, dict[str, Tensor]] = {}
        self._partials: list[dict[int, Any]] = [{} for _ in analyses]

    def take(self, site: str, layer: int, value: Tensor, slope: Tensor | None) -> None:
        """Accept a value and its gradient; the last array of a layer triggers its reduction.

        Raises:
            FloatingPointError: NaN or infinity, with site and layer.
        """
        values = self._waiting.setdefault(layer, {})
        given = {site: value} if slope is None else {site: value, f"{site}_grad": slope}
        for name in given.keys() & self._names:
            rows = self._held.get(name)
            held = _rows(given[name], rows)
            values[name] = held.clone() if name == "attn_scores" and not isinstance(rows, list) else held
            check_finite({name: values[name]}, layer)
        if len(values) == self._waits_for:
            self._reduce(layer, self._waiting.pop(layer))

    def _reduce(self, layer: int, values: dict[str, Tensor]) -> None:
        for index, (analysis, view, rows) in enumerate(zip(self.analyses, self.views, self._own, strict=True)):
            own = {n: _rows(values[n], rows.get(n)) for n in sorted(arrays(analysis))}
            here = replace(view, layer=layer)
            partial = analysis.reduce(own, here)
            self._partials[index] = dict(analysis.join({**self._partials[index], layer: partial}, here))

    def results(self) -> tuple[Result, ...]:
        """Return the result of every analysis, when all layers have arrived."""
        found = zip(self.analyses, self._partials, self.views, strict=True)
        return tuple(a.finish(dict(sorted(p.items())), v) for a, p, v in found)


def arrays(analysis: Analysis) -> frozenset[str]:
    """Return the names of the arrays an analysis reads; gradients as `<site>_grad`."""
    return analysis.want | {f"{s}_grad" for s in analysis.grad}


def _among(have: tuple[int, ...], wanted: tuple[int, ...]) -> RowIndex:
    """Return the indices of some positions among others.

    Contiguous rows that are most of the array become a slice, which copies nothing. A slice of few rows would keep the whole array alive.
    """
    if have == wanted:
        return None
    at = [have.index(p) for p in wanted]
    most = 2 * len(at) > len(have) and at == list(range(at[0], at[-1] + 1))
    return slice(at[0], at[-1] + 1) if most else at


def _rows(value: Tensor, rows: RowIndex) -> Tensor:
    return value if rows is None else value[:, rows]
