"""The base of all analyses, and how one runs on a saved capture.

`Analysis` is the base class: `reduce` turns the arrays of one layer into a small partial, `finish` turns all partials into a `Result`.
`View` is what it knows beside the arrays. `on_capture` runs an analysis on a `Capture`; `interp.measure` runs it during a pass.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar, final

from torch import Tensor

from interp.data.heads import HeadWeights, LogitDirections
from interp.data.layout import Layout
from interp.data.prompt import Capture
from interp.data.result import Result
from interp.data.short_repr import set_short_repr
from interp.data.tokens import EVERY, Selector, tokens

R_co = TypeVar("R_co", bound=Result, covariant=True)
"""The result of an analysis."""

QUERY_ARRAYS = frozenset({"attn_scores", "pattern", "attn_scores_grad", "pattern_grad"})
"""The arrays with an axis of query rows; of these, an analysis gets only the rows it declares."""


@final
@dataclass(frozen=True, eq=False)
class View:
    """What an analysis knows about the pass in addition to the arrays.

    Args:
        layout: the conversation's layout.
        words: its tokens as text.
        ids: its token ids.
        queries: the positions that the query axes run over.
        layer: the layer being reduced; -1 in `finish`.
        weights: returns the per-head weights of a layer; None without a model.
        unembed: from the residual stream after the last layer (..., dim) to logits (..., vocab), final norm included; None
            without a model.
        directions: from token ids to the directions in the residual stream that raise their logits; None without a model.
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
        """Return the indices of the query rows that a selection takes (None for all), and the view restricted to them.

        Raises:
            ValueError: the selection takes no token of the conversation, or rows that were not captured.
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

    def __init_subclass__(cls) -> None:
        """Print settings that differ from their defaults alone, and arrays as their sizes."""
        set_short_repr(cls)

    @property
    def rows(self) -> Selector:
        """The query rows of scores and pattern that it needs; all by default."""
        return EVERY

    @property
    def gradient(self) -> Literal["full", "position"]:
        """What its gradients are of: one target (`full`), or every response token in its own row (`position`); see `capture`."""
        return "full"

    @abc.abstractmethod
    def reduce(self, values: Mapping[str, Tensor], view: View) -> Any:
        """Return the partial of one layer.

        Args:
            values: the layer's arrays by site, without a layer axis; gradients as `<site>_grad`.
            view: the conversation; its `queries` are the rows of this analysis.
        """

    def join(self, partials: Mapping[int, Any], view: View) -> Mapping[int, Any]:
        """Return what to keep of the layers that have arrived, by layer; that of `view.layer` is the newest.

        By default all partials. An analysis that multiplies the layers with each other combines them here, so that its memory does not
        grow with depth. Layers arrive first to last, or last to first if gradients are needed.
        """
        return partials

    @abc.abstractmethod
    def finish(self, partials: Mapping[int, Any], view: View) -> R_co:
        """Return the result from the partials, by layer."""


def on_capture(analysis: Analysis[R_co], capture: Capture, *, view: View | None = None) -> R_co:
    """Return the result of an analysis on a capture: the same numbers as `measure` gives while the pass runs.

    Args:
        analysis: the analysis.
        capture: the arrays.
        view: `model.view(prompt)`, for an analysis that needs the weights; not needed otherwise.

    Raises:
        KeyError: an array it needs was not captured.
        ValueError: rows or weights that it needs are missing.
    """
    names = sorted(analysis.want) + [f"{s}_grad" for s in sorted(analysis.grad)]
    arrays = {n: capture[n] for n in names}
    known = view or View(capture.layout, capture.tokens, capture.ids)
    rows, view = replace(known, queries=capture.queries).for_rows(analysis.rows)
    partials: Mapping[int, Any] = {}
    for layer in sorted(
        capture.layers, reverse=bool(analysis.grad)
    ):  # the order of a pass: a backward pass reaches the last layer first
        index, here = capture.layers.index(layer), replace(view, layer=layer)
        values = select_rows({n: a[index] for n, a in arrays.items()}, rows)
        partials = analysis.join({**partials, layer: analysis.reduce(values, here)}, here)
    return analysis.finish(dict(sorted(partials.items())), view)


def select_rows(values: Mapping[str, Tensor], rows: list[int] | None) -> dict[str, Tensor]:
    """Return a layer's arrays with scores and pattern cut to some query rows; None keeps all rows."""
    return {n: v[:, rows] if rows is not None and n in QUERY_ARRAYS else v for n, v in values.items()}
