"""One reply of a model, and what a single pass over it gives: attention, saliency, shares of attention, sinks, drift.

A `Variant` names the interventions. `view_reply` makes the `ReplyView` of a reply; `force_reply` passes a reply of one variant through
another. Both take the variant resolved: SPEAR and other methods run a pass of their own to resolve their settings, which is done once
per variant and prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.anchors import VisualAnchors, VisualDrift
from interp.analysis.base import Analysis
from interp.analysis.budget import SEGMENTS, shares_of
from interp.analysis.product import normalise_saliency
from interp.analysis.rows import AttentionRows, AttentionTable
from interp.analysis.saliency import ResponseSaliency, TokenSaliency
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.layout import Layout
from interp.data.prompt import Prompt, Reply
from interp.data.tokens import PREDICTING, Segment, tokens
from interp.decoding.generate import generate
from interp.interventions.method import Resolved
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.measure import measure

SHARES: Final = ("SINK", "SYSTEM", "IMAGE", "USER", "RESPONSE")
"""The parts that attention is divided into: the sinks, and the four segments without them."""
_MOST_ENTRIES: Final = 24 * 2**20
"""Entries of attention and saliency that one reply may put into a page; above it, only the mean over heads is kept."""


@final
@dataclass(frozen=True)
class Variant:
    """A model under some interventions.

    Args:
        name: a short name.
        interventions: interventions and methods; none for the baseline.
        explanation: one sentence about them, for the page of the study.
    """

    name: str
    interventions: tuple[Any, ...] = ()
    explanation: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """Every intervention with the settings that differ from their defaults, as text."""
        given = [
            (c, [(f.name, getattr(c, f.name)) for f in fields(c) if getattr(c, f.name) != f.default])
            for c in self.interventions
        ]
        return tuple(f"{type(c).__name__}({', '.join(f'{n}={v}' for n, v in settings)})" for c, settings in given)


BASELINE: Final = Variant("baseline", (), "The model without any intervention.")


@final
@dataclass(frozen=True, eq=False)
class ReplyView:
    """One reply and what one pass over it gives.

    Args:
        variant: the variant of the model.
        prompt: the question with the reply.
        reply: the reply.
        attention: the attention row that predicts each token of the reply; the head axis has one entry where heads were averaged.
        saliency: |A ⊙ ∂loss/∂A| in the same rows, in nats; None where the model does not allow it.
        previous: the share of the token just before in the saliency of each row, mean over layers; in [0, 1].
        shares: the shares of attention of `SHARES` in each row.
        sinks: the attention sinks of this variant.
        drift: how attention to the image changes from layer to layer; None without an image.
        notes: remarks for the reader of the page.
    """

    variant: Variant
    prompt: Prompt = field(repr=False)
    reply: Reply
    attention: Float[Tensor, "layer head query key"] = field(repr=False)
    saliency: Float[Tensor, "layer head query key"] | None = field(repr=False)
    previous: Float[Tensor, " token"] | None = field(repr=False)
    shares: Float[Tensor, "layer head query segment"] = field(repr=False)
    sinks: SinkTable = field(repr=False)
    drift: VisualDrift | None = field(repr=False)
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class ForcedReply:
    """A reply teacher-forced through a variant that did not generate it.

    Args:
        logprobs: of every token, in nats.
        maps: attention on the image in the row that predicts each token, mean over layers and heads; in [0, 1].
        shares: the shares of attention of `SHARES` in that row, mean over layers and heads.
    """

    logprobs: tuple[float, ...]
    maps: Float[Tensor, "query token"] = field(repr=False)
    shares: Float[Tensor, "query segment"] = field(repr=False)


def generate_reply(model: Model, resolved: Resolved, longest: int) -> Reply:
    """Return the reply of a model to one prompt under a resolved variant.

    Args:
        model: the model.
        resolved: one prompt and the variant, resolved.
        longest: the longest reply, in tokens.
    """
    prompt = resolved.prompts[0]
    if resolved.loop is not None:
        return resolved.loop.decode(
            model, prompt, resolved.interventions, resolved.rules, max_new_tokens=longest, seed=None, on_token=None
        )
    return generate(model, prompt, *resolved.interventions, *resolved.rules, max_new_tokens=longest)


def encode_reply(model: Model, resolved: Resolved, response: str) -> Reply:
    """Return a text as the reply to one prompt, with the probabilities that a resolved variant gives its tokens.

    Raises:
        ValueError: the text is empty.
    """
    prompt = resolved.prompts[0]
    ids = prompt.with_response(response).response_ids
    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    words = tuple(model.tokenizer.decode([i]) for i in ids)
    return Reply(text, words, ids, force_reply(model, resolved, ids).logprobs, "end", prompt)


def view_reply(model: Model, variant: Variant, resolved: Resolved, reply: Reply) -> ReplyView:
    """Return what one pass over a reply gives.

    Args:
        model: the model.
        variant: the variant that the page names.
        resolved: one prompt and this variant, resolved.
        reply: a reply to that prompt.
    """
    whole = resolved.prompts[0].with_response(reply)
    results = measure(model, whole, *_analyses(model, whole), interventions=resolved.interventions)
    by_type: dict[type, Any] = {type(result): result for result in results}
    rows, sinks, salient = by_type[AttentionTable], by_type[SinkTable], by_type.get(TokenSaliency)
    return ReplyView(
        variant,
        whole,
        reply,
        rows.attention,
        None if salient is None else salient.saliency,
        None if salient is None else _previous(salient),
        divide_shares(rows.attention, whole.layout, sinks.positions),
        sinks,
        by_type.get(VisualDrift),
        _notes(model, variant, resolved, rows.heads),
    )


def force_reply(model: Model, resolved: Resolved, ids: Sequence[int], sinks: tuple[int, ...] = ()) -> ForcedReply:
    """Return a reply teacher-forced through a resolved variant; rules on the choice of tokens are left out.

    Args:
        model: the model.
        resolved: one prompt and the variant, resolved.
        ids: the token ids of the reply.
        sinks: the positions that are counted as sinks.
    """
    whole = resolved.prompts[0].with_response(ids)
    kept: Any = capture(
        model, whole, want={"logits", "pattern"}, queries=PREDICTING, interventions=resolved.interventions
    )
    chosen = torch.tensor(whole.response_ids)
    logprobs = kept.logits[list(kept.queries)].float().log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
    mean = kept.pattern.float().mean((0, 1))
    maps = mean[:, whole.layout.mask(Segment.IMAGE)]
    return ForcedReply(tuple(logprobs.tolist()), maps, divide_shares(mean, whole.layout, sinks))


def divide_shares(
    pattern: Float[Tensor, "*layer query key"], layout: Layout, sinks: tuple[int, ...]
) -> Float[Tensor, "*layer query segment"]:
    """Return the share of attention of each of `SHARES` in every row; in [0, 1]."""
    apart = tokens(sinks)
    return shares_of(pattern.unsqueeze(-2), layout, (apart, *(s - apart for s in SEGMENTS)))


def _analyses(model: Model, whole: Prompt) -> list[Analysis]:
    entries = 2 * model.layers * model.heads * len(whole.response_ids) * len(whole)
    heads: Literal["each", "mean"] = "each" if entries <= _MOST_ENTRIES else "mean"
    chosen: list[Analysis] = [AttentionRows(heads), Sinks()]
    if not model.family.response_type:
        chosen.append(ResponseSaliency(heads, "none"))
    if whole.layout.positions(Segment.IMAGE):
        chosen.append(VisualAnchors())
    return chosen


def _previous(salient: TokenSaliency) -> Float[Tensor, " token"]:
    """Return the saliency of the token just before each token, as `ResponseSaliency()` defines it: heads added, rows of length one."""
    added = normalise_saliency(salient.saliency.sum(1, keepdim=True).flatten(0, 1), "row_l2").unsqueeze(1)
    own = [p - 1 for p in salient.positions]
    return added[:, 0, range(len(own)), own].mean(0)


def _notes(model: Model, variant: Variant, resolved: Resolved, heads: str) -> tuple[str, ...]:
    notes = []
    if heads == "mean":
        notes.append("This page holds the mean over heads, because all heads would make it too large.")
    if resolved.rules or resolved.loop is not None:
        notes.append(
            f"{variant.name} also changes which token is chosen. The pass shown here reads the reply that it chose; "
            "a pass chooses no tokens."
        )
    if model.family.response_type:
        notes.append(
            "Prompt tokens of this model attend to later tokens, so one backward pass does not give the saliency of every token; "
            "saliency is not shown."
        )
    return tuple(notes)
