"""Analyses: frozen values with settings that reduce each layer to a small partial, and the partials to a Result."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar, final

from torch import Tensor

from interp.data.heads import HeadWeights, LogitDirections
from interp.data.layout import Layout
from interp.data.prompt import Capture
from interp.data.result import Result
from interp.data.tokens import EVERY, Selector, tokens

R_co = TypeVar("R_co", bound=Result, covariant=True)
"""The result of an analysis."""

QUERY_ARRAYS = frozenset({"attn_scores", "pattern", "attn_scores_grad", "pattern_grad"})
"""The arrays that have an axis of query rows."""


@final
@dataclass(frozen=True, eq=False)
class View:
    """What an analysis knows about the pass beside the arrays.

    Args:
        layout: the conversation's layout.
        words: its tokens as text.
        ids: its token ids.
        queries: the positions that the query axes run over.
        layer: the layer being reduced; -1 in `finish`.
        weights: gives the per-head weights of a layer; None where no model is at hand.
        unembed: from the residual stream after the last layer (..., dim) to logits (..., vocab), final norm included; None
            where no model is at hand.
    """

    layout: Layout
    words: tuple[str, ...]
    ids: tuple[int, ...]
    queries: tuple[int, ...] = ()
    layer: int = -1
    weights: Callable[[int], HeadWeights] | None = field(default=None, repr=False)
    unembed: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    directions: Callable[[Sequence[int]], LogitDirections] | None = field(default=None, repr=False)

    def for_rows(self, rows: Selector) -> tuple[list[int] | None, "View"]:
        """Return which of the query rows a selection takes (None for all), and the view of them.

        Raises:
            ValueError: it takes no token, or rows that are not at hand.
        """
        selection, have = tokens(rows), self.queries
        positions = self.layout.positions(selection)
        if not positions:
            raise ValueError(
                f"the query rows {selection} take no token of this conversation; "
                "does it need a reply? prompt.with_response(reply)"
            )
        missing = sorted(set(positions) - set(have))
        if missing:
            raise ValueError(
                f"query rows {missing[:5]} are needed ({selection}) but were not captured; "
                "capture(..., queries=...) with them in"
            )
        some = None if positions == have else [have.index(p) for p in positions]
        return some, replace(self, queries=positions)


class Analysis(abc.ABC, Generic[R_co]):
    """The base of all analyses. The same object reduces a running pass layer by layer and a saved capture.

    A subclass names its result, `class Sinks(Analysis[SinkTable])`, so that an editor knows what `measure` returns.

    `want` and `grad` name the sites whose values and gradients it needs; `rows` the query rows of scores and pattern; `undefined` the
    arrays of its result that hold NaN where a quantity is not defined (all others are finite).
    """

    want: ClassVar[frozenset[str]] = frozenset()
    grad: ClassVar[frozenset[str]] = frozenset()
    undefined: ClassVar[frozenset[str]] = frozenset()

    @property
    def rows(self) -> Selector:
        """The query rows of scores and pattern it needs; all by default."""
        return EVERY

    @property
    def gradient(self) -> Literal["full", "position"]:
        """Of what its gradients are: one target, or every response token in its own row (see `capture`)."""
        return "full"

    @abc.abstractmethod
    def reduce(self, values: Mapping[str, Tensor], view: View) -> Any:
        """Return the partial of one layer.

        Args:
            values: the layer's arrays by site, without a layer axis; gradients as `<site>_grad`.
            view: the conversation; its queries are those of this analysis.
        """

    def join(self, partials: Mapping[int, Any], view: View) -> Mapping[int, Any]:
        """Return what is kept of the layers that have arrived, by layer, the one of `view.layer` being the newest.

        All their partials, as they are; an analysis whose layers are multiplied with each other makes one of them here, so that what it
        keeps does not grow. Layers arrive first to last, or last to first where gradients come with them.
        """
        return partials

    @abc.abstractmethod
    def finish(self, partials: Mapping[int, Any], view: View) -> R_co:
        """Return the result from the partials, by layer."""


def on_capture(analysis: Analysis[R_co], capture: Capture, *, view: View | None = None) -> R_co:
    """Return what an analysis finds in a capture: the same numbers as while the pass runs.

    Args:
        analysis: what to find out.
        capture: the arrays.
        view: what `model.view(prompt)` gives, for an analysis that needs the weights; not needed otherwise.

    Raises:
        KeyError: an array it needs was not captured.
        ValueError: rows or weights it needs are not at hand.
    """
    names = sorted(analysis.want) + [f"{s}_grad" for s in sorted(analysis.grad)]
    arrays = {n: capture[n] for n in names}
    known = view or View(capture.layout, capture.tokens, capture.ids)
    rows, view = replace(known, queries=capture.queries).for_rows(analysis.rows)
    partials: Mapping[int, Any] = {}
    for layer in sorted(capture.layers, reverse=bool(analysis.grad)):  # the order in which a pass gives them
        index, here = capture.layers.index(layer), replace(view, layer=layer)
        values = select_rows({n: a[index] for n, a in arrays.items()}, rows)
        partials = analysis.join({**partials, layer: analysis.reduce(values, here)}, here)
    return analysis.finish(dict(sorted(partials.items())), view)


def select_rows(values: Mapping[str, Tensor], rows: list[int] | None) -> dict[str, Tensor]:
    """Return a layer's arrays with only some of the query rows of scores and pattern; None keeps all."""
    return {n: v[:, rows] if rows is not None and n in QUERY_ARRAYS else v for n, v in values.items()}
