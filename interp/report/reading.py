"""Readings: replies to one question under several changes, each looked into in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.anchors import VisualAnchors, VisualDrift
from interp.analysis.base import Analysis
from interp.analysis.budget import SEGMENTS, shares_of
from interp.analysis.product import normalised
from interp.analysis.rows import AttentionRows, AttentionTable
from interp.analysis.saliency import ResponseSaliency, TokenSaliency
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.layout import Layout
from interp.data.prompt import Prompt, Reply
from interp.data.tokens import PREDICTING, Segment, tokens
from interp.decoding.generate import generate
from interp.interventions.method import Resolved, resolve
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.measure import measure

MOST: Final = 24 * 2**20
"""Entries of attention and saliency that a page may hold; above it only the mean over heads is kept."""


@final
@dataclass(frozen=True)
class Variant:
    """One way to change the model.

    Args:
        name: in a few words.
        interventions: interventions and methods; none is the model as it is.
    """

    name: str
    interventions: tuple[Any, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """Every change with those of its settings that are not the default ones."""
        given = [
            (c, [(f.name, getattr(c, f.name)) for f in fields(c) if getattr(c, f.name) != f.default])
            for c in self.interventions
        ]
        return tuple(f"{type(c).__name__}({', '.join(f'{n}={v}' for n, v in settings)})" for c, settings in given)


AS_IT_IS: Final = Variant("as it is")


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """One reply and what one pass over it shows.

    Args:
        variant: what was changed.
        prompt: the question with the reply.
        reply: the reply.
        attention: what the row that predicts each token of the reply attends to; the head axis has one entry where heads were
            averaged.
        saliency: |A ⊙ ∂loss/∂A| there, in nats; None where the model does not allow it.
        score: the saliency of the token just before, as a part of its row, mean over layers; in [0, 1].
        shares: of the sinks and of every segment without them, in the order of `PARTS`.
        sinks: the sinks under the change.
        drift: how attention to the image changes from layer to layer; None without an image.
        notes: what the reader has to know.
    """

    variant: Variant
    prompt: Prompt = field(repr=False)
    reply: Reply
    attention: Float[Tensor, "layer head query key"] = field(repr=False)
    saliency: Float[Tensor, "layer head query key"] | None = field(repr=False)
    score: Float[Tensor, " token"] | None = field(repr=False)
    shares: Float[Tensor, "layer head query segment"] = field(repr=False)
    sinks: SinkTable = field(repr=False)
    drift: VisualDrift | None = field(repr=False)
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class Forced:
    """The same reply, teacher-forced, under a change: what became of every token of it.

    Args:
        logprobs: of every token, in nats.
        maps: attention on the image in the row that predicts each token, mean over layers and heads; in [0, 1].
        shares: of the parts in that row, mean over layers and heads.
    """

    logprobs: tuple[float, ...]
    maps: Float[Tensor, "query token"] = field(repr=False)
    shares: Float[Tensor, "query segment"] = field(repr=False)


def read(model: Model, prompt: Prompt, variant: Variant, *, response: str | None = None, longest: int = 128) -> Reading:
    """Return a model's reply under a change, or a given one, and look into it in one pass.

    Args:
        model: the model.
        prompt: the question, without a reply.
        variant: what is changed.
        response: the reply to look at; the model's own by default.
        longest: the most tokens of its own reply.

    Raises:
        ValueError: an empty reply was given, or a change does not fit the model.
    """
    settled = resolve(model, [prompt], variant.interventions)
    reply = (
        generate(model, prompt, *variant.interventions, max_new_tokens=longest)
        if response is None
        else _given(model, settled, response)
    )
    whole = settled.prompts[0].with_response(reply)
    results = measure(model, whole, *_analyses(model, whole), interventions=settled.interventions)
    found: dict[type, Any] = {type(result): result for result in results}
    table, sinks, salient = found[AttentionTable], found[SinkTable], found.get(TokenSaliency)
    return Reading(
        variant,
        whole,
        reply,
        table.attention,
        None if salient is None else salient.saliency,
        None if salient is None else _score(salient),
        part_shares(table.attention, whole.layout, sinks.positions),
        sinks,
        found.get(VisualDrift),
        _notes(model, variant, settled, table.heads),
    )


def forced(model: Model, settled: Resolved, reply: Sequence[int], sinks: tuple[int, ...] = ()) -> Forced:
    """Return what becomes of every token of a teacher-forced reply under a change; what only chooses tokens is left out.

    Args:
        model: the model.
        settled: the question, and what the change comes to.
        reply: the ids of the reply.
        sinks: the positions that are counted apart.
    """
    whole = settled.prompts[0].with_response(reply)
    kept: Any = capture(
        model, whole, want={"logits", "pattern"}, queries=PREDICTING, interventions=settled.interventions
    )
    rows = list(kept.queries)
    ids = torch.tensor(whole.response_ids)
    logprobs = kept.logits[rows].float().log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    mean = kept.pattern.float().mean((0, 1))
    maps = mean[:, whole.layout.mask(Segment.IMAGE)]
    return Forced(tuple(logprobs.tolist()), maps, part_shares(mean, whole.layout, sinks))


def _given(model: Model, settled: Resolved, response: str) -> Reply:
    """Return a text as the reply to a question, with the probabilities that the model gives it."""
    prompt = settled.prompts[0]
    ids = prompt.with_response(response).response_ids
    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    words = tuple(model.tokenizer.decode([i]) for i in ids)
    return Reply(text, words, ids, forced(model, settled, ids).logprobs, "end", prompt)


def part_shares(
    pattern: Float[Tensor, "*layer query key"], layout: Layout, sinks: tuple[int, ...]
) -> Float[Tensor, "*layer query segment"]:
    """Return the share of the sinks and of every segment without them in every row: the parts of `interp.report.looking.PARTS`."""
    apart = tokens(sinks)
    return shares_of(pattern.unsqueeze(-2), layout, (apart, *(s - apart for s in SEGMENTS)))


def _analyses(model: Model, whole: Prompt) -> list[Analysis]:
    entries = 2 * model.layers * model.heads * len(whole.response_ids) * len(whole)
    heads = "each" if entries <= MOST else "mean"
    chosen: list[Analysis] = [AttentionRows(heads), Sinks()]  # type: ignore[arg-type]
    if not model.family.response_type:
        chosen.append(ResponseSaliency(heads, "none"))  # type: ignore[arg-type]
    if whole.layout.positions(Segment.IMAGE):
        chosen.append(VisualAnchors())
    return chosen


def _score(salient: TokenSaliency) -> Float[Tensor, " token"]:
    """Return the saliency of the token just before each, as `ResponseSaliency()` has it: heads added, rows of length one."""
    added = normalised(salient.saliency.sum(1, keepdim=True).flatten(0, 1), "row_l2").unsqueeze(1)
    own = [p - 1 for p in salient.positions]
    return added[:, 0, range(len(own)), own].mean(0)


def _notes(model: Model, variant: Variant, settled: Resolved, heads: str) -> tuple[str, ...]:
    notes = []
    if heads == "mean":
        notes.append("The page holds the mean over heads: with every head it would be too large.")
    if settled.rules or settled.loop is not None:
        notes.append(
            f"{variant.name} also acts where a token is chosen. The pass below reads the reply it chose; one pass chooses nothing."
        )
    if model.family.response_type:
        notes.append(
            "This model's prompt tokens see ahead, so one backward pass does not give every token's saliency: none is shown."
        )
    return tuple(notes)
