"""The arithmetic of saliency on plain arrays: attention times gradient, normalisation, and scores of tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HeadReduction = Literal["each", "abs_then_sum", "sum_then_abs", "mean"]
Norm = Literal["frobenius", "row_l2", "none"]
HEAD_REDUCTIONS: tuple[str, ...] = ("each", "abs_then_sum", "sum_then_abs", "mean")
NORMS: tuple[str, ...] = ("frobenius", "row_l2", "none")


def saliency(
    pattern: Float[Tensor, "head query key"],
    gradient: Float[Tensor, "head query key"],
    queries: tuple[int, ...],
    heads: HeadReduction = "abs_then_sum",
) -> Float[Tensor, "_ query key"]:
    """Return the sensitivity of the loss to each attention probability: |A ⊙ ∂loss/∂A| on and below the diagonal.

    In nats, at least 0: to first order, the change of the loss if that one probability became 0. It is 0 where a key comes
    after its query.

    Args:
        pattern: A.
        gradient: ∂loss/∂A.
        queries: the position of each query row.
        heads: `each` keeps the heads; `abs_then_sum` is Σ_h |A ⊙ ∂A|, `sum_then_abs` |Σ_h A ⊙ ∂A|, where heads with
            opposite effects cancel, and `mean` the first divided by the number of heads. The last three leave one entry.

    Raises:
        ValueError: an unknown reduction over heads.

    References: Zhang et al., LVLMs-Saliency (2026), equation 4 (`abs_then_sum`) and appendix equation 11 (`sum_then_abs`), the
    latter being the definition of Wang et al., Label Words are Anchors (2023). Differs: no; the released script multiplies
    pre-softmax scores with a gradient of layer 0 instead, which is neither.
    """
    if heads not in HEAD_REDUCTIONS:
        raise ValueError(f"heads is one of {', '.join(HEAD_REDUCTIONS)}, got {heads!r}")
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    seen = keys <= torch.tensor(queries, device=pattern.device)[:, None]
    products = (torch.where(seen, a.float() * g.float(), 0.0) for a, g in zip(pattern, gradient, strict=True))
    if heads == "each":
        return torch.stack([p.abs_() for p in products])
    total = torch.zeros_like(pattern[0], dtype=torch.float32)
    for product in products:
        total += product if heads == "sum_then_abs" else product.abs_()
    return total.abs()[None] / (len(pattern) if heads == "mean" else 1)


def normalise_saliency(values: Float[Tensor, "head query key"], norm: Norm) -> Float[Tensor, "head query key"]:
    """Return saliencies divided by the norm of their matrix (`frobenius`) or of their row (`row_l2`); `none` leaves them alone.

    Zeros stay zeros. With a norm, entries are in [0, 1].

    Raises:
        ValueError: an unknown norm.

    References: LVLMs-Saliency equation 5, which does not name the norm. Differs: both readings are offered.
    """
    if norm == "none":
        return values
    if norm not in NORMS:
        raise ValueError(f"norm is one of {', '.join(NORMS)}, got {norm!r}")
    over = (-2, -1) if norm == "frobenius" else (-1,)
    largest = values.abs().amax(over, keepdim=True)
    scaled = values / torch.where(largest > 0, largest, 1.0)  # squares of tiny gradients would underflow
    length = scaled.square().sum(over, keepdim=True).sqrt()
    return scaled / torch.where(length > 0, length, 1.0)


def refuse_settings(heads: str, norm: str) -> None:
    """Refuse an unknown reduction over heads or an unknown norm.

    Raises:
        ValueError: lists the known ones.
    """
    if heads not in HEAD_REDUCTIONS or norm not in NORMS:
        raise ValueError(
            f"heads is one of {', '.join(HEAD_REDUCTIONS)} and norm one of {', '.join(NORMS)}, got {heads!r} and {norm!r}"
        )


def token_scores(
    rows: Float[Tensor, "layer head query key"], at: Tensor, response: Bool[Tensor, " key"]
) -> dict[str, Float[Tensor, "layer token"]]:
    """Return the three scores of each row, averaged over heads: the entry at its own key, at the key before, the mean over the output.

    The output are the response tokens up to the row's own position. The score is 0 for a row without any, and for the key before the
    first.

    Args:
        rows: saliencies.
        at: the position of each row.
        response: which keys are response tokens.
    """
    mean = rows.mean(1)
    index = torch.arange(len(at))
    own = mean[:, index, at]
    previous = torch.where(at > 0, mean[:, index, (at - 1).clamp_min(0)], 0.0)
    visible = (response & (torch.arange(rows.shape[-1]) <= at[:, None])).to(mean.dtype)
    output = (mean * visible).sum(-1) / visible.sum(-1).clamp_min(1)
    return {"own": own, "previous": previous, "output": output}
