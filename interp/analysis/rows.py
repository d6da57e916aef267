"""Rows of attention: by default what each token of a reply attends to in the row that predicts it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.result import Result
from interp.data.tokens import PREDICTING, Selector

HEAD_CHOICES: tuple[str, ...] = ("each", "mean")


@final
@dataclass(frozen=True)
class AttentionTable(Result):
    """The attention from some rows to every token, by layer and head; probability mass in [0, 1].

    If heads were averaged, the head axis has one entry.
    """

    attention: Float[Tensor, "layer head query key"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    queries: tuple[int, ...]
    heads: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `attention`."""
        return "attention"

    @property
    def labels(self) -> dict[str, list]:
        """The layers, the heads and the positions of the rows."""
        heads = list(range(self.attention.shape[1])) if self.heads == "each" else [self.heads]
        return {"layer": list(self.layers), "head": heads, "query": list(self.queries)}


@final
@dataclass(frozen=True)
class AttentionRows(Analysis[AttentionTable]):
    """Keep rows of attention unreduced: by default those that predict the tokens of a reply.

    Args:
        heads: `each` keeps the heads, `mean` averages them.
        queries: the rows.

    Raises:
        ValueError: an unknown reduction over heads.
    """

    heads: Literal["each", "mean"] = "each"
    queries: Selector = PREDICTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    def __post_init__(self) -> None:
        """Refuse an unknown setting."""
        if self.heads not in HEAD_CHOICES:
            raise ValueError(f"heads is one of {', '.join(HEAD_CHOICES)}, got {self.heads!r}")

    @property
    def rows(self) -> Selector:
        """The rows."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head query key"]:
        """Return one layer's rows."""
        pattern = values["pattern"].detach().float()
        return (pattern.mean(0, keepdim=True) if self.heads == "mean" else pattern).cpu()

    def finish(self, partials: Mapping[int, Tensor], view: View) -> AttentionTable:
        """Stack the layers."""
        return AttentionTable(
            torch.stack(list(partials.values())), tuple(partials), view.words, view.queries, self.heads
        )
