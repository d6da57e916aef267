"""Attention imbalance after AIR: between text and image per head (MAI), and per token between attention and contribution (TAI).

`ModalityImbalance` gives `ModalityImbalances`, `TokenImbalance` gives `TokenImbalances`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.heads import HeadWeights
from interp.data.layout import Layout
from interp.data.result import Result
from interp.data.tokens import EMITTING, EVERY, PREDICTING, Segment, Selector, tokens

Denominator = Literal["output_norm", "uniform", "erasure", "saliency"]
DENOMINATORS = ("output_norm", "uniform", "erasure", "saliency")
TEXT_SEGMENTS = Segment.USER | Segment.RESPONSE
TINY = torch.finfo(torch.float32).tiny


def modality_mass(
    pattern: Float[Tensor, "*batch query key"], layout: Layout, which: Selector
) -> Float[Tensor, "*batch query"]:
    """Return the attention from each row to the tokens a selection takes: probability mass in [0, 1]."""
    return pattern.float() @ layout.mask(which).to(pattern.device, torch.float32)


@final
@dataclass(frozen=True)
class ModalityImbalances(Result):
    """The ratio of attention to the text and attention to the image, per head and step of the reply.

    `mai` is text mass / image mass, from 0; 1 when both get the same. `text` and `image` are the masses, in [0, 1]. Step s is the row that
    emits response token s.
    """

    mai: Float[Tensor, "layer head step"]
    text: Float[Tensor, "layer head step"]
    image: Float[Tensor, "layer head step"]
    layers: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `mai`."""
        return "mai"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}

    def by_head(self, mean: Literal["masses", "ratios"] = "masses") -> Float[Tensor, "layer head"]:
        """Return one number a head: the ratio of the mean masses over steps, or the mean of the steps' ratios.

        A single step without attention to the image makes the mean of ratios arbitrarily large; the ratio of means is robust to it.

        Raises:
            ValueError: another mean.
        """
        if mean not in ("masses", "ratios"):
            raise ValueError(f"mean is 'masses' or 'ratios', got {mean!r}")
        return self.mai.mean(-1) if mean == "ratios" else self.text.mean(-1) / self.image.mean(-1).clamp_min(TINY)


@final
@dataclass(frozen=True)
class ModalityImbalance(Analysis[ModalityImbalances]):
    """The modality-wise attention imbalance (MAI) of every head at every step.

    Args:
        text: what counts as text; by default the question and the reply, `SYSTEM | USER | RESPONSE` includes the system prompt.
        queries: the steps; by default the rows that emit the reply.

    References: Attention Imbalance Rectification (AIR, 2026), MAI(text, image). Differs: the paper does not name the query rows; here they
    are those of the decoding steps.
    """

    text: Selector = TEXT_SEGMENTS
    queries: Selector = EMITTING
    want: ClassVar[frozenset[str]] = frozenset({"pattern"})

    @property
    def rows(self) -> Selector:
        """The steps."""
        return self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return one layer's masses.

        Raises:
            ValueError: no image, or no text.
        """
        for name, which in (("image", Segment.IMAGE), ("text", self.text)):
            if not view.layout.mask(which).any():
                raise ValueError(
                    f"the imbalance of text and image needs both, but this conversation has no {name} token ({which})"
                )
        masses = (("text", self.text), ("image", Segment.IMAGE))
        return {name: modality_mass(values["pattern"], view.layout, which).cpu() for name, which in masses}

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> ModalityImbalances:
        """Stack the layers and divide."""
        text, image = (torch.stack([p[n] for p in partials.values()]) for n in ("text", "image"))
        return ModalityImbalances(text / image.clamp_min(TINY), text, image, tuple(partials), view.queries)


def later_mean(values: Float[Tensor, "query key"], queries: tuple[int, ...], least: int = 1) -> Float[Tensor, " key"]:
    """Return the mean of each column over the rows after it; NaN for a token after which there are fewer than `least` rows.

    Args:
        values: one number a row and token.
        queries: the positions of the rows.
        least: the smallest number of rows to average over.
    """
    after = torch.tensor(queries, device=values.device)[:, None] > torch.arange(values.shape[1], device=values.device)
    count = after.sum(0)
    return torch.where(after, values.float(), 0).sum(0) / torch.where(count >= max(least, 1), count, torch.nan)


def contribution_norms(
    pattern: Float[Tensor, "head query key"],
    values: Float[Tensor, "key kv_head head_dim"],
    weights: HeadWeights,
) -> Float[Tensor, "query key"]:
    """Return the norm of the contribution of each token to each row through all heads of a layer: ‖Σ_h A_hij W_O[h] v_j[h]‖₂.

    Query head h uses key-value head h // group. The output projection's bias belongs to no token and is left out.

    References: Kobayashi et al., Attention is Not Only a Weight (2020), norms of weighted vectors. Differs: the heads are summed before
    the norm, so that they can cancel.
    """
    group = pattern.shape[0] // values.shape[1]
    norms = []
    for chunk in torch.arange(pattern.shape[2], device=pattern.device).split(64):
        own = values[chunk].float().repeat_interleave(group, 1)
        moved = torch.einsum("hde,the->thd", weights.W_O.to(own), own)
        gram = moved @ moved.mT
        share = pattern[:, :, chunk].float().permute(2, 1, 0)
        norms.append(((share @ gram) * share).sum(-1).clamp_min(0).sqrt().T)
    return torch.cat(norms, -1)


def normalise_shares(values: Float[Tensor, "*batch token"]) -> Float[Tensor, "*batch token"]:
    """Return values ≥ 0 as shares that sum to 1 over the tokens with a value; NaN stays NaN, and zeros alone become even shares."""
    total = values.nansum(-1, keepdim=True)
    even = torch.where(values.isnan(), torch.nan, 1.0) / (~values.isnan()).sum(-1, keepdim=True)
    return torch.where(total > 0, values / total.clamp_min(TINY), even)


def token_imbalance(
    received: Float[Tensor, "*batch token"], contributed: Float[Tensor, "*batch token"]
) -> Float[Tensor, "*batch token"]:
    """Return the share of attention each token receives over the share of information it contributes; 1 when they agree.

    Both are normalised to shares first. Any measure of contribution can be used, also one that needs further passes (exact ablation).
    """
    return normalise_shares(received) / normalise_shares(contributed).clamp_min(TINY)


@final
@dataclass(frozen=True)
class TokenImbalances(Result):
    """The token-wise attention imbalance (TAI): far above 1 where a token gets much attention and contributes little.

    `tai` = `attention` / `information` per layer and token, from 0; both are shares that sum to 1 over the tokens that a later row sees.
    `overall` is the same ratio for the shares averaged over layers. NaN for tokens with too few later rows.
    """

    tai: Float[Tensor, "layer token"]
    attention: Float[Tensor, "layer token"]
    information: Float[Tensor, "layer token"]
    overall: Float[Tensor, " token"]
    layers: tuple[int, ...]
    words: tuple[str, ...]
    denominator: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `tai`."""
        return "tai"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}

    def largest(self, count: int = 10) -> list[dict[str, Any]]:
        """Return the tokens with the largest overall imbalance: position, token, tai, attention, information."""
        order = self.overall.nan_to_num(-1).argsort(descending=True, stable=True)[:count].tolist()
        columns = {"tai": self.overall, "attention": self.attention.mean(0), "information": self.information.mean(0)}
        known = [p for p in order if not bool(self.overall[p].isnan())]
        return [{"position": p, "token": self.words[p], **{n: float(x[p]) for n, x in columns.items()}} for p in known]


@final
@dataclass(frozen=True)
class TokenImbalance(Analysis[TokenImbalances]):
    """The token-wise attention imbalance of every token of a conversation.

    The numerator is the attention a token receives from later rows, averaged over them and over heads. The denominator, averaged
    over the same rows, is what it contributes to them:

    - `output_norm`: the norm of what it adds to the row through all heads (`contribution_norms`);
    - `uniform`: the same for every token;
    - `saliency`: Σ_h |A ∇A|, of the loss of the token that the row emits;
    - `erasure`: |Σ_h A ∇A|, the first-order change of that loss when the layer's attention to the token is cut (not renormalised).

    The last two need a reply and one backward pass; their rows are those that predict the reply.

    Args:
        denominator: how contribution is measured.
        queries: the rows.
        least_rows: the smallest number of later rows of a token, because a mean over fewer is mostly noise; all rows, if they are fewer.

    References: Attention Imbalance Rectification (AIR, 2026), TAI. Differs: a reconstruction; how the paper measures the information
    of a token is not public.
    """

    denominator: Denominator = "output_norm"
    queries: Selector = EVERY
    least_rows: int = 4
    undefined: ClassVar[frozenset[str]] = frozenset({"tai", "attention", "information", "overall"})

    def __post_init__(self) -> None:
        """Refuse an unknown denominator.

        Raises:
            ValueError: not one of the four.
        """
        if self.denominator not in DENOMINATORS:
            raise ValueError(f"denominator is one of {', '.join(DENOMINATORS)}, got {self.denominator!r}")

    @property
    def want(self) -> frozenset[str]:  # type: ignore[override]
        """The pattern, and the values for `output_norm`."""
        return frozenset({"pattern", "v"} if self.denominator == "output_norm" else {"pattern"})

    @property
    def grad(self) -> frozenset[str]:  # type: ignore[override]
        """The gradient of the pattern for `erasure` and `saliency`."""
        return frozenset({"pattern"} if self.denominator in ("erasure", "saliency") else ())

    @property
    def gradient(self) -> Literal["full", "position"]:
        """Every response token's own."""
        return "position"

    @property
    def rows(self) -> Selector:
        """The rows; only those that predict the reply have a gradient."""
        return tokens(self.queries) & PREDICTING if self.grad else self.queries

    def reduce(self, values: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
        """Return what the tokens of one layer receive and contribute.

        Raises:
            ValueError: no row has a token before it, or `output_norm` has no weights.
        """
        if max(view.queries) < 1:
            raise ValueError(
                f"no token lies before the query rows {view.queries}: a conversation of at least two tokens is needed"
            )
        least = min(self.least_rows, sum(p > 0 for p in view.queries))
        each = {"attention": values["pattern"].float().mean(0), "information": self._contributed(values, view)}
        return {name: normalise_shares(later_mean(x, view.queries, least)).cpu() for name, x in each.items()}

    def _contributed(self, values: Mapping[str, Tensor], view: View) -> Tensor:
        """Return one number a row and token."""
        pattern = values["pattern"]
        if self.denominator == "uniform":
            return torch.ones_like(pattern[0], dtype=torch.float32)
        if self.denominator == "output_norm":
            if view.weights is None:
                raise ValueError(
                    "denominator='output_norm' needs the model's weights, which a capture does not hold: use interp.measure(...), "
                    "on_capture(..., view=model.view(prompt)), or denominator='uniform'"
                )
            return contribution_norms(pattern, values["v"], view.weights(view.layer))
        effect = pattern.float() * values["pattern_grad"].float()
        return effect.abs().sum(0) if self.denominator == "saliency" else effect.sum(0).abs()

    def finish(self, partials: Mapping[int, dict[str, Tensor]], view: View) -> TokenImbalances:
        """Stack the layers and divide."""
        a, c = (torch.stack([p[n] for p in partials.values()]) for n in ("attention", "information"))
        overall = token_imbalance(a.mean(0), c.mean(0))
        return TokenImbalances(token_imbalance(a, c), a, c, overall, tuple(partials), view.words, self.denominator)
