"""Similarity of attention between two runs on the same reply, head by head: with the image, and by the language model alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.heads import Heads, heads
from interp.data.prompt import Capture
from interp.data.result import Result
from interp.data.tokens import Segment


def pattern_cosine(
    one: Float[Tensor, "*batch query key"], other: Float[Tensor, "*batch query key"]
) -> Float[Tensor, "*batch"]:
    """Return the cosine of two attention maps taken as vectors: vec(A)·vec(B) / (‖A‖ ‖B‖), in [0, 1]; 0 when a map is empty.

    1 for maps that are equal up to a factor. Two causal maps of few tokens always have a high cosine: compare with that of unrelated
    maps before interpreting a value.

    References: AIR's supplement, appendix A.2. Differs: no.
    """
    a, b = one.double().flatten(-2), other.double().flatten(-2)
    length = a.norm(dim=-1) * b.norm(dim=-1)
    return ((a * b).sum(-1) / length.clamp_min(torch.finfo(torch.float64).tiny)).clamp(0, 1).float()


def response_pattern(capture: Capture) -> Float[Tensor, "layer head query key"]:
    """Return the attention from the reply to the reply.

    Raises:
        ValueError: a reply of fewer than two tokens, or its rows were not captured.
    """
    positions = capture.layout.positions(Segment.RESPONSE)
    if len(positions) < 2:
        raise ValueError(
            f"attention within a reply needs a reply of at least two tokens, this one has {len(positions)}: "
            "prompt.with_response(reply)"
        )
    if not set(positions) <= set(capture.queries):
        raise ValueError("the rows of the reply were not captured: capture(..., queries=Segment.RESPONSE)")
    rows = [capture.queries.index(p) for p in positions]
    return capture.pattern[:, :, rows][..., list(positions)].float()


@final
@dataclass(frozen=True)
class HeadSimilarity(Result):
    """The cosine of the attention within the reply between two runs, per layer and head; in [0, 1]."""

    similarity: Float[Tensor, "layer head"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    rows: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `similarity`."""
        return "similarity"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}

    def over(self, which: Heads | Iterable[tuple[int, int]]) -> float:
        """Return the mean over a set of heads, such as the most sensitive ones.

        Raises:
            ValueError: an empty set, or a head that was not compared.
        """
        chosen = heads(which)
        if not len(chosen):
            raise ValueError("the mean over no head is not defined: give at least one (layer, head)")
        missing = [p for p in chosen if p[0] not in self.layers or p[1] >= self.similarity.shape[1]]
        if missing:
            raise ValueError(
                f"heads {missing} were not compared; there are layers {list(self.layers)} with {self.similarity.shape[1]} heads each"
            )
        return float(torch.stack([self.similarity[self.layers.index(layer), head] for layer, head in chosen]).mean())


def head_similarity(
    one: Capture, other: Capture, *, rows: Literal["as_they_are", "normalised"] = "as_they_are"
) -> HeadSimilarity:
    """Return the similarity of attention within the same reply in two runs: a model with its image, and a language model alone.

    Args:
        one: a capture of the pattern, with the reply's rows.
        other: the same of the other run; its prompt may differ, its reply may not.
        rows: `normalised` scales every row to sum to 1 within the reply first, so that rows that attend elsewhere have equal weight.

    Raises:
        ValueError: different replies, layers or numbers of heads, an unknown `rows`, or a reply that is too short.

    References: AIR's supplement, appendix A.2; AD-HH's inheritance analysis. Differs: no placeholder replaces the image, unless the
    prompt of the other run has one.
    """
    if rows not in ("as_they_are", "normalised"):
        raise ValueError(f"rows is 'as_they_are' or 'normalised', got {rows!r}")
    replies = [[c.ids[p] for p in c.layout.positions(Segment.RESPONSE)] for c in (one, other)]
    if replies[0] != replies[1]:
        raise ValueError(
            f"the two runs have different replies, {len(replies[0])} and {len(replies[1])} tokens: "
            "give both the same token ids"
        )
    if one.layers != other.layers:
        raise ValueError(f"the two runs kept different layers, {list(one.layers)} and {list(other.layers)}")
    maps = [response_pattern(c) for c in (one, other)]
    if maps[0].shape != maps[1].shape:
        raise ValueError(
            f"the two models have {maps[0].shape[1]} and {maps[1].shape[1]} heads a layer: "
            "they are not the same language model"
        )
    if rows == "normalised":
        maps = [m / m.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) for m in maps]
    words = tuple(one.tokens[p] for p in one.layout.positions(Segment.RESPONSE))
    return HeadSimilarity(pattern_cosine(*maps), one.layers, words, rows)
