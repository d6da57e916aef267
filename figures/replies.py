"""Attention and saliency among the tokens of a reply, for the figures of LVLMs-Saliency."""

from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from interp.data.result import Result
from interp.plot.style import BLUE, GREY, RED, SEQUENTIAL, word_label

COLOURS = {"hallucinated": RED, "correct": BLUE, "": GREY}


@final
@dataclass(frozen=True)
class ReplyMaps(Result):
    """Who looks at whom within a reply: the row that predicts each token against the tokens before it.

    Attention and saliency (heads summed, rows of length 1) are means over layers; `score` is the saliency of the last token before
    each. `kinds` says which tokens begin a mention: hallucinated, correct, or neither.
    """

    attention: Float[Tensor, "step key"]
    saliency: Float[Tensor, "step key"]
    score: Float[Tensor, " step"]
    words: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `saliency`."""
        return "saliency"


def measure_reply(model: Any, said: Any, *interventions: Any) -> ReplyMaps:
    """Measure one captioned scene."""
    import interp
    from interp.analysis.saliency import ResponseSaliency
    from interp.data.tokens import PREDICTING

    first = len(said.prompt) - len(said.reply.ids)
    found = interp.measure(model, said.prompt, ResponseSaliency(), interventions=interventions)
    kept = interp.capture(model, said.prompt, want={"pattern"}, queries=PREDICTING, interventions=interventions)
    kinds = (
        "hallucinated" if b else "correct" if g else "" for b, g in zip(said.hallucinated, said.correct, strict=True)
    )
    return ReplyMaps(
        kept.pattern.mean((0, 1))[:, first:],
        found.saliency.mean((0, 1))[:, first:],
        found.score("previous"),
        tuple(said.reply.tokens),
        tuple(kinds),
    )


def with_invention(said: list[Any]) -> Any:
    """Return the first caption that names something that is not there after something that is.

    Raises:
        ValueError: none does; ask for more samples.
    """
    for one in said:
        bad, good = one.hallucinated.nonzero().flatten().tolist(), one.correct.nonzero().flatten().tolist()
        if bad and good and good[0] < bad[0]:
            return one
    raise ValueError(f"none of {len(said)} captions names something that is not there; ask for more with --n")


def bars(values: Tensor, words: tuple[str, ...], label: str, colour: str, ax: Axes) -> None:
    """Draw what one row gives to each earlier token of the reply."""
    ax.bar(range(len(words)), values.tolist(), color=colour)
    ax.set_xticks(range(len(words)), [word_label(w) for w in words], rotation=75, ha="right", fontsize=8)
    ax.set(ylabel=label, xlim=(-0.8, len(words) - 0.2))


def board(maps: ReplyMaps, name: str, label: str, ax: Axes, *, limit: float | None = None) -> None:
    """Draw a map of the reply's tokens, mentions in the colours of their kind."""
    values = getattr(maps, name)
    top = None if limit is None else limit**0.5
    drawn = ax.imshow(
        values.clamp_min(0).sqrt(), cmap=SEQUENTIAL, aspect="auto", vmin=0, vmax=top, interpolation="nearest"
    )
    words = [word_label(w) for w in maps.words]
    for axis, names in (("x", ax.set_xticks(range(len(words)), words, rotation=90, fontsize=7)), ("y", None)):
        if names is None:
            ax.set_yticks(range(len(words)), words, fontsize=7)
        for tick, kind in zip(getattr(ax, f"get_{axis}ticklabels")(), maps.kinds, strict=True):
            tick.set_color(COLOURS[kind] if kind else "black")
    ax.set(xlabel="earlier token", ylabel="predicted token")
    ax.figure.colorbar(drawn, ax=ax, label=f"√ {label}")
