"""Saliency: the attention probabilities times the gradient of a loss with respect to them.

`Saliency` gives maps for one target, `ResponseSaliency` one row for every token of a reply. The arithmetic is in `product`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.analysis.budget import SEGMENTS
from interp.analysis.product import HeadReduction, Norm, normalise_saliency, refuse_settings, saliency, token_scores
from interp.data.result import Result
from interp.data.tokens import EVERY, PREDICTING, Segment, Selector

__all__ = [
    "ResponseSaliency",
    "Saliency",
    "SaliencyFlow",
    "SaliencyMaps",
    "TokenSaliency",
    "normalise_saliency",
    "saliency",
    "token_scores",
]


@final
@dataclass(frozen=True)
class SaliencyFlow(Result):
    """Saliency from each segment (`key`) into each segment (`query`), per pair of tokens.

    The mean of the saliency over all pairs of a query in one segment and an earlier or equal key in the other; 0 without such
    a pair. In nats if the saliency was not normalised.
    """

    flow: Float[Tensor, "layer query key"]
    layers: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `flow`."""
        return "flow"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers and segments."""
        return {"layer": list(self.layers), "query": [s.name for s in SEGMENTS], "key": [s.name for s in SEGMENTS]}


@final
@dataclass(frozen=True)
class SaliencyMaps(Result):
    """The saliency of every pair of tokens for one target.

    If heads were combined, the head axis has one entry, named after the reduction.
    """

    saliency: Float[Tensor, "layer head query key"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    segments: tuple[str, ...]
    queries: tuple[int, ...]
    heads: str
    norm: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `saliency`."""
        return "saliency"

    @property
    def labels(self) -> dict[str, list]:
        """The layers, the heads and the positions of the queries."""
        heads = list(range(self.saliency.shape[1])) if self.heads == "each" else [self.heads]
        return {"layer": list(self.layers), "head": heads, "query": list(self.queries)}

    def flow(self) -> SaliencyFlow:
        """Return the mean saliency from segment to segment per layer, heads averaged.

        References: Label Words are Anchors (2023), the S metrics; ClearSight's image-to-text flow. Differs: ClearSight's script
        counts A twice.
        """
        keys = torch.arange(len(self.segments))
        reachable = (keys <= torch.tensor(self.queries)[:, None]).float()
        into = torch.stack([self._mask(s)[list(self.queries)] for s in SEGMENTS])
        out = torch.stack([self._mask(s) for s in SEGMENTS])
        total = torch.einsum("lqk,sq,tk->lst", self.saliency.float().mean(1), into, out)
        pairs = torch.einsum("qk,sq,tk->st", reachable, into, out)
        return SaliencyFlow(total / pairs.clamp_min(1), self.layers)

    def _mask(self, segment: Segment) -> Tensor:
        return torch.tensor([name == segment.name for name in self.segments], dtype=torch.float32)


@final
@dataclass(frozen=True)
class Saliency(Analysis[SaliencyMaps]):
    """The saliency of every pair of tokens for one target, from its whole gradient: `measure(..., Saliency(), target=0)`.

    Rows below the target's own are non-zero except in the last layer; the row of the target token itself is zero in every layer,
    because the rows that predict a token cannot attend to it.

    Args:
        heads: how heads are combined, see `saliency`.
        norm: the norm that the maps are divided by, see `normalise_saliency`; per layer, and per head if heads are kept.
        queries: the query rows.

    Raises:
        ValueError: an unknown setting.
    """

    heads: HeadReduction = "abs_then_sum"
    norm: Norm = "frobenius"
    queries: Selector = EVERY
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})
    grad: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def __post_init__(self) -> None:
        """Refuse unknown settings."""
        refuse_settings(self.heads, self.norm)

    @property
    def rows(self) -> Selector:
        """The query rows."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head query key"]:
        """Return one layer's map."""
        found = saliency(values["pattern"], values["pattern_grad"], view.queries, self.heads)
        return normalise_saliency(found, self.norm).cpu()

    def finish(self, partials: Mapping[int, Tensor], view: View) -> SaliencyMaps:
        """Stack the layers."""
        whole = torch.stack(list(partials.values()))
        return SaliencyMaps(whole, tuple(partials), view.words, view.layout.names, view.queries, self.heads, self.norm)


@final
@dataclass(frozen=True)
class TokenSaliency(Result):
    """The saliency of the rows that predict the response tokens.

    `saliency` has one query row a response token, the row that predicts it (position P - 1 for the token at P). `own` is its entry
    at key P - 1, the token just before the predicted one; `previous` at key P - 2; `output` its mean over the response tokens before
    P, 0 for the first. `source` is the sum of the row over each segment. All but `saliency` are means over heads, if heads
    were kept.
    """

    saliency: Float[Tensor, "layer head query key"]
    own: Float[Tensor, "layer token"]
    previous: Float[Tensor, "layer token"]
    output: Float[Tensor, "layer token"]
    source: Float[Tensor, "layer token segment"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    positions: tuple[int, ...]
    heads: str
    norm: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `own`."""
        return "own"

    @property
    def labels(self) -> dict[str, list]:
        """The layers, heads, segments, and the positions of the predicted tokens and of the rows that predict them."""
        heads = list(range(self.saliency.shape[1])) if self.heads == "each" else [self.heads]
        positions = {"token": list(self.positions), "query": [p - 1 for p in self.positions]}
        return {"layer": list(self.layers), "head": heads, "segment": [s.name for s in SEGMENTS], **positions}

    @property
    def reply(self) -> tuple[str, ...]:
        """The response tokens as text."""
        return tuple(self.words[p] for p in self.positions)

    def score(self, key: str = "own", layers: Selector | None = None) -> Float[Tensor, " token"]:
        """Return one number a response token: its score averaged over layers.

        Args:
            key: `own`, `previous` or `output`.
            layers: the layers to average over; all by default.

        Raises:
            ValueError: an unknown score, or layers that were not measured.

        References: LVLMs-Saliency Table 4, "from the immediately preceding output token to the current token". Differs: the text
        does not say which entry that is; `own` and `previous` are the two readings, `output` is what its sampler SGRS averages.
        """
        if key not in ("own", "previous", "output"):
            raise ValueError(f"a token's score is 'own', 'previous' or 'output', got {key!r}")
        wanted = list(self.layers) if layers is None else [layers] if isinstance(layers, int) else list(layers)  # type: ignore[arg-type]
        missing = [i for i in wanted if i not in self.layers]
        if missing or not wanted:
            raise ValueError(f"layers {missing or wanted} were not measured; there are {list(self.layers)}")
        values: Tensor = getattr(self, key)
        return values[[self.layers.index(i) for i in wanted]].mean(0)


@final
@dataclass(frozen=True)
class ResponseSaliency(Analysis[TokenSaliency]):
    """The saliency of every token of a reply in the row that predicts it, from one forward and one backward pass.

    The row that predicts a token depends on other positions only through keys and values that its own stream does not affect, so
    stopping the gradient between positions does not alter the gradient of each row's own loss.

    Args:
        heads: how heads are combined, see `saliency`.
        norm: the norm that the rows are divided by, see `normalise_saliency`; `row_l2` keeps scores in [0, 1], `frobenius` is that over
            all these rows of a layer.

    Raises:
        ValueError: an unknown setting.
    """

    heads: HeadReduction = "abs_then_sum"
    norm: Norm = "row_l2"
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})
    grad: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def __post_init__(self) -> None:
        """Refuse unknown settings."""
        refuse_settings(self.heads, self.norm)

    @property
    def rows(self) -> Selector:
        """The rows that predict the reply."""
        return PREDICTING

    @property
    def gradient(self) -> Literal["full", "position"]:
        """Every response token's, in its own row."""
        return "position"

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head query key"]:
        """Return one layer's rows."""
        found = saliency(values["pattern"], values["pattern_grad"], view.queries, self.heads)
        return normalise_saliency(found, self.norm).cpu()

    def finish(self, partials: Mapping[int, Tensor], view: View) -> TokenSaliency:
        """Stack the layers and compute the scores of the rows."""
        whole = torch.stack(list(partials.values()))
        rows = torch.tensor(view.queries)
        return TokenSaliency(
            whole,
            **token_scores(whole, rows, view.layout.mask(Segment.RESPONSE).cpu()),
            source=torch.stack([whole[..., view.layout.mask(s).cpu()].sum(-1) for s in SEGMENTS], -1).mean(1),
            layers=tuple(partials),
            words=view.words,
            positions=tuple(p + 1 for p in view.queries),
            heads=self.heads,
            norm=self.norm,
        )
