"""Heads as values: which ones, and what each of them multiplies by."""

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

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

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
    """What each query head of one layer multiplies by, grouped-query attention resolved; in float32 but for W_O.

    The gain of the norm before the attention is folded into Q, K and V, so that they act on the normalised stream. A column vector x of the
    stream gives the query W_Q[h] x + b_Q[h].

    Args:
        W_Q: query weights.
        W_K: key weights; query heads of one group share them.
        W_V: value weights, shared the same way.
        W_O: output weights, as the layer keeps them and in its type: no copy is made.
        b_Q: query bias, zero where there is none.
        b_K: key bias, zero where there is none.
        b_V: value bias, zero where there is none.
        scale: what scores are multiplied by, usually head_dim ** -0.5.
        rotary: by how many radians a token of distance each pair (i, i + n) of head dimensions is turned, n of them; None where
            positions do not rotate queries and keys, or in a way that is not known.
        centred: whether the norm before the attention subtracts the mean (LayerNorm) or not (RMSNorm).
        epsilon: what that norm adds to the mean square.
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
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    def normalised(self, stream: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the stream as these weights meet it, in float32: through the norm before the attention, whose gain they hold.

        x / sqrt(mean(x²) + ε), after subtracting mean(x) where the norm does. A norm's own bias is left out.
        """
        x = stream.float()
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()

    def at_offset(self, offset: int) -> "HeadWeights":
        """Return the weights with queries turned the way rotary embedding turns them against a key `offset` tokens earlier.

        Rotary embedding makes the score of query i and key j (R(i - j) q_i) · k_j, so R(offset) goes into W_Q and b_Q. At 0, the
        weights themselves.

        Raises:
            ValueError: an offset other than 0 and no rotary frequencies.
        """
        if offset == 0:
            return self
        if self.rotary is None:
            raise ValueError(
                f"these weights carry no rotary frequencies, so offset={offset} means nothing for them: the model's positions do not "
                "rotate queries and keys, or in a way that is not known; use offset=0"
            )
        return replace(
            self,
            W_Q=_turned(self.W_Q, self.rotary, offset),
            b_Q=_turned(self.b_Q[..., None], self.rotary, offset)[..., 0],
        )


def _turned(rows: Tensor, rotary: Tensor, offset: int) -> Tensor:
    """Return (head, head_dim, ...) with the pairs (i, i + n) of the first 2n head dimensions turned by offset × frequency."""
    pairs = len(rotary)
    angle = (offset * rotary.to(rows))[:, None]
    first, second, rest = rows.split([pairs, pairs, rows.shape[1] - 2 * pairs], 1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], 1)


@final
@dataclass(frozen=True, eq=False)
class LogitDirections:
    """What a stream is multiplied by for the logits of some tokens, in float32.

    The logit of token n is (vectors[n] · x) / scale(x) + bias[n], for x the stream after the last layer.

    Args:
        vectors: rows of the output head with the final norm's gain folded in, and for a LayerNorm their mean taken out.
        bias: what the final norm's bias and the head's add.
        centred: whether the norm subtracts the mean (LayerNorm).
        epsilon: what the norm adds to the variance.
    """

    vectors: Float[Tensor, "token dim"]
    bias: Float[Tensor, " token"]
    centred: bool
    epsilon: float

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    def scale(self, stream: Float[Tensor, "*layer dim"]) -> Float[Tensor, "*layer"]:
        """Return what the final norm divides a stream by."""
        x = stream.float()
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return (x.square().mean(-1) + self.epsilon).sqrt()
