"""Readouts of the residual stream: the logit lens, and the direct contribution of every head and MLP to a logit.

`LogitLens` gives `LensTable`, `LogitAttribution` gives `LogitParts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.heads import LogitDirections
from interp.data.result import Result
from interp.data.tokens import EMITTING, EVERY, PREDICTING, Selector, tokens

_NO_MODEL = "needs the model's output head, which a capture does not hold: on_capture(analysis, capture, view=model.view(prompt))"


@final
@dataclass(frozen=True)
class LensTable(Result):
    """The next-token distribution read from the residual stream after each layer, at every position.

    `top` are the ids of the most probable next tokens after each layer, best first, `top_log_probability` their log-probability
    (nats); `following` is the log-probability of the token that follows in the conversation and `rank` its rank, 0 for the most
    probable; NaN and -1 at the last token, which has no successor. `entropy` is that of the distribution, in nats.
    """

    top: Int[Tensor, "layer token candidate"]
    top_log_probability: Float[Tensor, "layer token candidate"]
    following: Float[Tensor, "layer token"]
    rank: Int[Tensor, "layer token"]
    entropy: Float[Tensor, "layer token"]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    words: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `following`."""
        return "following"

    @property
    def labels(self) -> dict[str, list]:
        """The layers and the positions."""
        return {"layer": list(self.layers), "token": list(self.positions)}


@final
@dataclass(frozen=True)
class LogitLens(Analysis[LensTable]):
    """Decode the residual stream after every layer with the final norm and the output head.

    After the last layer this is the model's own prediction.

    Args:
        top: the number of most probable tokens to keep.
        positions: the positions to decode.

    Raises:
        ValueError: fewer than one token to keep.

    References: nostalgebraist, interpreting GPT: the logit lens (2020). Differs: no.
    """

    top: int = 5
    positions: Selector = EVERY
    want: ClassVar[frozenset[str]] = frozenset({"resid_post"})
    undefined: ClassVar[frozenset[str]] = frozenset({"following"})

    def __post_init__(self) -> None:
        """Refuse a count below 1."""
        if self.top < 1:
            raise ValueError(f"top is the number of tokens to keep, at least 1; got {self.top}")

    @property
    def rows(self) -> Selector:
        """It reads neither scores nor pattern, so these few rows."""
        return EMITTING

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return the predictions of one layer."""
        if view.unembed is None:
            raise ValueError(f"the logit lens {_NO_MODEL}")
        where = list(_positions(view, self.positions))
        predicted = view.unembed(values["resid_post"][where]).float().log_softmax(-1).cpu()
        nexts = torch.tensor([view.ids[p + 1] if p + 1 < len(view.ids) else -1 for p in where])
        following = predicted.gather(-1, nexts.clamp_min(0)[:, None])
        best, top = predicted.topk(min(self.top, predicted.shape[-1]), -1)
        return {
            "top": top,
            "top_log_probability": best,
            "following": torch.where(nexts >= 0, following[:, 0], torch.nan),
            "rank": torch.where(nexts >= 0, (predicted > following).sum(-1), -1),
            "entropy": -(predicted.exp() * predicted).nan_to_num().sum(-1),
        }

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> LensTable:
        """Stack the layers."""
        names = next(iter(partials.values()))
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in names}
        where = _positions(view, self.positions)
        return LensTable(**found, layers=tuple(partials), positions=where, words=tuple(view.words[p] for p in where))


@final
@dataclass(frozen=True)
class LogitParts(Result):
    """What every part of the model adds to the logit of a token, at the final norm's scale of the actual pass.

    `embedding + heads + mlp + rest`, summed over layers and heads, and `bias` is `logit`. `rest` is what a layer adds in addition to its
    heads and its MLP: biases of the attention output, features inserted between layers, and in models with a norm after the
    attention (Gemma) the difference that this norm makes to the heads' output.
    """

    heads: Float[Tensor, "layer head token"]
    mlp: Float[Tensor, "layer token"]
    rest: Float[Tensor, "layer token"]
    embedding: Float[Tensor, " token"]
    bias: Float[Tensor, " token"]
    logit: Float[Tensor, " token"]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    ids: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `heads`."""
        return "heads"

    @property
    def labels(self) -> dict[str, list]:
        """The layers, and the positions of the rows that predict the tokens."""
        return {"layer": list(self.layers), "token": list(self.positions)}


@final
@dataclass(frozen=True)
class LogitAttribution(Analysis[LogitParts]):
    """Split the logit of a token into the direct contributions of every head and every MLP.

    A part that writes c at a row whose last stream is x adds (c · g ⊙ W_U[token]) / scale(x): the norm's gain g and scale are those
    of the actual pass.

    Args:
        token: the id of the token; by default every token of the reply, at the row that predicts it. A given token is evaluated at
            every row that emits a token.
        against: the id of a token whose logit is subtracted.

    References: Elhage et al., A Mathematical Framework for Transformer Circuits (2021), direct path terms; Nanda and Bloom,
    TransformerLens, `ActivationCache.logit_attrs`. Differs: no.
    """

    token: int | None = None
    against: int | None = None
    want: ClassVar[frozenset[str]] = frozenset({"z", "mlp_out", "resid_pre", "resid_post"})

    @property
    def rows(self) -> Selector:
        """It reads neither scores nor pattern, so these few rows."""
        return EMITTING

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return what one layer's parts add, before the division by the scale."""
        if view.weights is None:
            raise ValueError(f"direct logit attribution {_NO_MODEL}")
        where = list(self._where(view))
        along, _ = self._directions(view)
        z, mlp, pre, post = (values[n][where].float() for n in ("z", "mlp_out", "resid_pre", "resid_post"))
        seen_by_head = torch.einsum("nd,hdk->nhk", along.vectors, view.weights(view.layer).W_O.float())
        parts = {
            "head": (seen_by_head.to(z.device) * z).sum(-1).T,
            **{n: (x * along.vectors.to(x.device)).sum(-1) for n, x in (("mlp", mlp), ("pre", pre), ("post", post))},
            "scale": along.scale(post),
        }
        return {n: x.cpu() for n, x in parts.items()}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> LogitParts:
        """Divide by the scale of the last layer's stream, and attribute what is neither head nor MLP to `rest`."""
        if tuple(partials) != tuple(range(len(partials))):
            raise ValueError(f"direct logit attribution needs every layer from 0 on, got {list(partials)}")
        found = {n: torch.stack([p[n] for p in partials.values()]) for n in next(iter(partials.values()))}
        scale, bias = found["scale"][-1], self._directions(view)[0].bias.cpu()
        after = torch.cat([found["pre"][1:], found["post"][-1:]])
        rest = after - found["pre"] - found["head"].sum(1) - found["mlp"]
        return LogitParts(
            found["head"] / scale,
            found["mlp"] / scale,
            rest / scale,
            found["pre"][0] / scale,
            bias,
            found["post"][-1] / scale + bias,
            tuple(partials),
            self._where(view),
            self._directions(view)[1],
        )

    def _where(self, view: View) -> tuple[int, ...]:
        return _positions(view, PREDICTING if self.token is None else EMITTING)

    def _directions(self, view: View) -> tuple[LogitDirections, tuple[int, ...]]:
        if view.directions is None:
            raise ValueError(f"direct logit attribution {_NO_MODEL}")
        where = self._where(view)
        ids = tuple(view.ids[p + 1] if self.token is None else self.token for p in where)
        found = view.directions(ids)
        if self.against is None:
            return found, ids
        other = view.directions([self.against])
        difference = LogitDirections(
            found.vectors - other.vectors, found.bias - other.bias, found.centred, found.epsilon
        )
        return difference, ids


def _positions(view: View, which: Selector) -> tuple[int, ...]:
    found: Any = view.layout.positions(which)
    if not found:
        raise ValueError(
            f"the positions {tokens(which)} take no token of this conversation; does it need a reply? prompt.with_response(reply)"
        )
    return tuple(found)
