"""Analyses: frozen values with settings that reduce each layer to a small partial, and the partials to a Result."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from interp.data import EVERY, Layout, Selector, Tokens, tokens
from interp.prompt import Capture
from interp.result import Result


@final
@dataclass(frozen=True)
class View:
    """What an analysis knows about the pass beside the arrays.

    Args:
        layout: the conversation's layout.
        words: its tokens as text.
        queries: the positions that the query axes run over.
    """

    layout: Layout
    words: tuple[str, ...]
    queries: tuple[int, ...]


class Analysis(abc.ABC):
    """The base of all analyses. The same object reduces a running pass layer by layer and a saved capture.

    `want` and `grad` name the sites whose values and gradients it needs; `rows` the query rows of scores and pattern.
    """

    want: ClassVar[frozenset[str]] = frozenset()
    grad: ClassVar[frozenset[str]] = frozenset()

    @property
    def rows(self) -> Selector:
        """The query rows of scores and pattern it needs; all by default."""
        return EVERY

    @abc.abstractmethod
    def reduce(self, values: Mapping[str, Tensor], view: View) -> Any:
        """Return the partial of one layer.

        Args:
            values: the layer's arrays by site, without a layer axis; gradients as `<site>_grad`.
            view: the conversation; its queries are those of this analysis.
        """

    @abc.abstractmethod
    def finish(self, partials: Mapping[int, Any], view: View) -> Result:
        """Return the result from the partials, by layer."""


def on_capture(analysis: Analysis, capture: Capture) -> Result:
    """Return what an analysis finds in a capture: the same numbers as while the pass runs.

    Raises:
        KeyError: an array it needs was not captured.
        ValueError: rows it needs were not captured.
    """
    names = sorted(analysis.want) + [f"{s}_grad" for s in sorted(analysis.grad)]
    arrays = {n: capture[n] for n in names}
    rows, view = _rows(analysis.rows, capture.queries, capture.layout, capture.tokens)
    partials = {}
    for index, layer in enumerate(capture.layers):
        values = {n: a[index] for n, a in arrays.items()}
        partials[layer] = analysis.reduce(restricted(values, rows), view)
    return analysis.finish(partials, view)


def restricted(values: Mapping[str, Tensor], rows: list[int] | None) -> dict[str, Tensor]:
    """Return a layer's arrays with only some of the query rows of scores and pattern; None keeps all."""
    attention = ("attn_scores", "pattern", "attn_scores_grad", "pattern_grad")
    return {n: v[:, rows] if rows is not None and n in attention else v for n, v in values.items()}


def _rows(wanted: Selector, have: tuple[int, ...], layout: Layout, words: tuple[str, ...]) -> tuple[list[int] | None, View]:
    selection: Tokens = tokens(wanted)
    positions = layout.positions(selection)
    if not positions:
        raise ValueError(f"the query rows {selection} take no token of this conversation")
    if positions == have:
        return None, View(layout, words, positions)
    missing = sorted(set(positions) - set(have))
    if missing:
        raise ValueError(f"query rows {missing[:5]} are needed ({selection}) but were not captured; capture(..., queries=...) with them in")
    return [have.index(p) for p in positions], View(layout, words, positions)


rows_of = _rows
