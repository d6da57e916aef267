"""Attention heads as data: sets of them (`Heads`), their weights (`HeadWeights`), and the directions of logits (`LogitDirections`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.short_repr import short_repr


@final
@dataclass(frozen=True)
class Heads:
    """A set of (layer, head) pairs, best first when a ranking made it. Rankings return it, ablations take it.

    Raises:
        ValueError: an index is negative.
    """

    of: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse negative indices, and drop duplicates."""
        pairs = tuple((int(layer), int(head)) for layer, head in self.of)
        if any(layer < 0 or head < 0 for layer, head in pairs):
            raise ValueError(f"layers and heads are counted from 0, got {pairs}")
        object.__setattr__(self, "of", tuple(dict.fromkeys(pairs)))

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    def __len__(self) -> int:
        """Return the number of heads."""
        return len(self.of)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the pairs, best first."""
        return iter(self.of)

    def __contains__(self, pair: object) -> bool:
        """Return whether the set has a (layer, head) pair."""
        return pair in self.of

    def __or__(self, other: "Heads") -> "Heads":
        """Return the union: these heads, then the other's."""
        return Heads(self.of + other.of)

    def __sub__(self, other: "Heads") -> "Heads":
        """Return these heads except the other's."""
        return Heads(tuple(p for p in self.of if p not in other.of))

    def top(self, count: int) -> "Heads":
        """Return the first `count` heads."""
        return Heads(self.of[:count])

    def of_layer(self, layer: int) -> tuple[int, ...]:
        """Return the heads of one layer."""
        return tuple(h for at, h in self.of if at == layer)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers with at least one of the heads, in ascending order."""
        return tuple(sorted({layer for layer, _ in self.of}))


def heads(pairs: Iterable[tuple[int, int]] | Heads) -> Heads:
    """Return a set of heads from (layer, head) pairs."""
    return pairs if isinstance(pairs, Heads) else Heads(tuple(pairs))


@final
@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The weights of each query head of one layer, with grouped-query attention resolved; in float32, except W_O.

    The gain of the norm before the attention is folded into Q, K and V, so that they act on the normalised stream. A column vector x of the
    stream gives the query W_Q[h] x + b_Q[h].

    Args:
        W_Q: query weights.
        W_K: key weights; query heads of one group share them.
        W_V: value weights, shared the same way.
        W_O: output weights, those of the layer, in its dtype, without a copy.
        b_Q: query bias, zero if the layer has none.
        b_K: key bias, zero if the layer has none.
        b_V: value bias, zero if the layer has none.
        scale: the factor of the scores, usually head_dim ** -0.5.
        rotary: the angle in radians per token of distance by which each of the n pairs (i, i + n) of head dimensions is rotated; None if
            positions do not rotate queries and keys, or rotate them in an unknown way.
        centred: whether the norm before the attention subtracts the mean (LayerNorm) or not (RMSNorm).
        epsilon: the constant that this norm adds to the mean square.
    """

    W_Q: Float[Tensor, "head head_dim dim"]
    W_K: Float[Tensor, "head head_dim dim"]
    W_V: Float[Tensor, "head head_dim dim"]
    W_O: Float[Tensor, "head dim head_dim"]
    b_Q: Float[Tensor, "head head_dim"]
    b_K: Float[Tensor, "head head_dim"]
    b_V: Float[Tensor, "head head_dim"]
    scale: float
    rotary: Float[Tensor, " _"] | None = None
    centred: bool = False
    epsilon: float = 0.0

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    def normalised(self, stream: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the stream after the norm before the attention, in float32, without the norm's gain, which these weights include.

        x / sqrt(mean(x²) + ε), after subtracting mean(x) if the norm does so. The norm's bias is ignored.
        """
        x = stream.float()
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()

    def at_offset(self, offset: int) -> "HeadWeights":
        """Return the weights with queries rotated as rotary embedding rotates them relative to a key `offset` tokens earlier.

        Rotary embedding makes the score of query i and key j (R(i - j) q_i) · k_j, so R(offset) is applied to W_Q and b_Q. Offset 0
        returns the weights unchanged.

        Raises:
            ValueError: the offset is not 0 and the weights have no rotary frequencies.
        """
        if offset == 0:
            return self
        if self.rotary is None:
            raise ValueError(
                f"these weights have no rotary frequencies, so offset={offset} is undefined: the model's positions do not "
                "rotate queries and keys, or rotate them in an unknown way; use offset=0"
            )
        return replace(
            self,
            W_Q=_rotate(self.W_Q, self.rotary, offset),
            b_Q=_rotate(self.b_Q[..., None], self.rotary, offset)[..., 0],
        )


def _rotate(rows: Tensor, rotary: Tensor, offset: int) -> Tensor:
    """Return (head, head_dim, ...) with the pairs (i, i + n) of the first 2n head dimensions rotated by offset × frequency."""
    pairs = len(rotary)  # partial rotary embedding leaves the dimensions after the first 2n alone
    angle = (offset * rotary.to(rows))[:, None]
    first, second, rest = rows.split([pairs, pairs, rows.shape[1] - 2 * pairs], 1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], 1)


@final
@dataclass(frozen=True, eq=False)
class LogitDirections:
    """The vectors that the residual stream is projected on for the logits of some tokens, in float32.

    The logit of token n is (vectors[n] · x) / scale(x) + bias[n], where x is the stream after the last layer.

    Args:
        vectors: rows of the output head with the final norm's gain folded in, centred if the norm is a LayerNorm.
        bias: the contribution of the biases of the final norm and the output head.
        centred: whether the norm subtracts the mean (LayerNorm).
        epsilon: the constant that the norm adds to the variance.
    """

    vectors: Float[Tensor, "token dim"]
    bias: Float[Tensor, " token"]
    centred: bool
    epsilon: float

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    def scale(self, stream: Float[Tensor, "*layer dim"]) -> Float[Tensor, "*layer"]:
        """Return the divisor of the final norm: sqrt(mean(x²) + ε), after centring for a LayerNorm."""
        x = stream.float()
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return (x.square().mean(-1) + self.epsilon).sqrt()
