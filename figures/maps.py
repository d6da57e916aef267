"""Saved maps of token pairs and how to draw them side by side, for the figures of attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.data.result import Result
from interp.plot.pairs import pairs


@final
@dataclass(frozen=True)
class PairMaps(Result):
    """Maps from query to key by layer, averaged over heads, with the tokens they belong to."""

    values: Float[Tensor, "layer query key"]
    layers: tuple[int, ...]
    queries: tuple[int, ...]
    words: tuple[str, ...]
    segments: tuple[str, ...]
    sinks: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `values`."""
        return "values"


def attention_of(model: Any, prompt: Any, layers: Sequence[int], **asked: Any) -> PairMaps:
    """Return the attention of some layers, averaged over heads, with the sinks of the conversation."""
    import interp
    from interp.analysis.sinks import Sinks

    found = interp.capture(model, prompt, want={"pattern"}, layers=layers, **asked)
    sinks = interp.measure(model, prompt, Sinks()).positions
    return PairMaps(
        found.pattern.mean(1), found.layers, found.queries, prompt.tokens, prompt.layout.names, tuple(sinks)
    )


def draw_maps(maps: PairMaps, axes: Iterable[Axes], label: str = "attention", *, limit: float | None = None) -> None:
    """Draw every layer on its own axes."""
    for values, layer, ax in zip(maps.values, maps.layers, axes, strict=True):
        pairs(values, label, maps.segments, queries=maps.queries, marked=maps.sinks, limit=limit, ax=ax)
        ax.set_title(f"layer {layer}", pad=12)


def segment_legend(figure: Any, segments: Iterable[str], *, sinks: bool = True) -> None:
    """Name the segments' colours under a figure, and the mark of sinks."""
    from matplotlib.lines import Line2D

    from interp.data.colours import SEGMENT_COLOURS
    from interp.plot.style import ORANGE

    named: list[Any] = [Line2D([], [], color=SEGMENT_COLOURS[s], linewidth=4, label=s) for s in dict.fromkeys(segments)]
    if sinks:
        named.append(Line2D([], [], color=ORANGE, marker="v", linestyle="", label="attention sink"))
    figure.legend(handles=named, loc="outside lower center", ncols=len(named))
