"""Heads as values: which ones, and what each of them multiplies by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor


@final
@dataclass(frozen=True)
class Heads:
    """A set of (layer, head) pairs, best first where a ranking made it: what a ranking returns and an ablation takes.

    Raises:
        ValueError: a negative index.
    """

    of: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse what no model has."""
        pairs = tuple((int(layer), int(head)) for layer, head in self.of)
        if any(layer < 0 or head < 0 for layer, head in pairs):
            raise ValueError(f"layers and heads are counted from 0, got {pairs}")
        object.__setattr__(self, "of", tuple(dict.fromkeys(pairs)))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.of)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Go through the pairs, best first."""
        return iter(self.of)

    def __contains__(self, pair: object) -> bool:
        """Say whether a (layer, head) pair is one of them."""
        return pair in self.of

    def __or__(self, other: "Heads") -> "Heads":
        """Return the heads of either."""
        return Heads(self.of + other.of)

    def __sub__(self, other: "Heads") -> "Heads":
        """Return these heads without the other's."""
        return Heads(tuple(p for p in self.of if p not in other.of))

    def top(self, count: int) -> "Heads":
        """Return the first `count`."""
        return Heads(self.of[:count])

    def of_layer(self, layer: int) -> tuple[int, ...]:
        """Return the heads of one layer."""
        return tuple(h for at, h in self.of if at == layer)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have any, in order."""
        return tuple(sorted({layer for layer, _ in self.of}))


def heads(pairs: Iterable[tuple[int, int]] | Heads) -> Heads:
    """Return a set of heads from (layer, head) pairs."""
    return pairs if isinstance(pairs, Heads) else Heads(tuple(pairs))


@final
@dataclass(frozen=True, eq=False)
class HeadWeights:
    """What each query head of one layer multiplies by, grouped-query attention resolved, in float32.

    The gain of the norm before the attention is folded into Q, K and V, so that they act on the normalised stream. A column vector x of the
    stream gives the query W_Q[h] x + b_Q[h].

    Args:
        W_Q: query weights.
        W_K: key weights; query heads of one group share them.
        W_V: value weights, shared the same way.
        W_O: output weights.
        b_Q: query bias, zero where there is none.
        b_K: key bias, zero where there is none.
        b_V: value bias, zero where there is none.
        scale: what scores are multiplied by, usually head_dim ** -0.5.
    """

    W_Q: Float[Tensor, "head head_dim dim"]
    W_K: Float[Tensor, "head head_dim dim"]
    W_V: Float[Tensor, "head head_dim dim"]
    W_O: Float[Tensor, "head dim head_dim"]
    b_Q: Float[Tensor, "head head_dim"]
    b_K: Float[Tensor, "head head_dim"]
    b_V: Float[Tensor, "head head_dim"]
    scale: float
