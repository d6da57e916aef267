"""Head sensitivity: the effect of erasing each head on every token of a reply, compared between hallucinated and correct tokens.

`interp.experiments.erasure.erase_heads` gives an exact `Erasure`, `HeadAttribution` its first-order estimate; `sensitivity` ranks heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.analysis.statistics import bootstrap_difference, false_discovery, spearman, welch
from interp.data.heads import Heads
from interp.data.result import Result
from interp.data.tokens import PREDICTING, Selector

Unit = Literal["probability", "log_probability"]


@final
@dataclass(frozen=True)
class Erasure(Result):
    """The log-probability (nats) of every token of a reply with one head erased at a time; NaN for heads that were left out.

    `clean` is the log-probability with all heads in place. `at` is where the head was erased: `step`, in the row that emits
    the token, with keys and values of a clean run; or `all`, at every position.
    """

    erased: Float[Tensor, "layer head token"]
    clean: Float[Tensor, " token"]
    positions: tuple[int, ...]
    reply: tuple[str, ...]
    at: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `erased`."""
        return "erased"

    @property
    def labels(self) -> dict[str, list]:
        """The positions of the tokens."""
        return {"token": list(self.positions)}

    def change(self, unit: Unit = "probability") -> Float[Tensor, "layer head token"]:
        """Return ΔP = p(token) - p(token | head erased): how much the head supports the token.

        In [-1, 1] as a probability, in nats as a log-probability. Positive: the token is less likely without the head.

        Raises:
            ValueError: an unknown unit.

        References: Yang et al., AD-HH (2025), the contribution of a head; AIR supplement A.1. Differs: no.
        """
        if unit == "log_probability":
            return self.clean - self.erased
        if unit != "probability":
            raise ValueError(f"unit is 'probability' or 'log_probability', got {unit!r}")
        return self.clean.exp() - self.erased.exp()


@final
@dataclass(frozen=True)
class FirstOrder(Result):
    """The first-order estimate of each head's effect on the log-probability of every token of a reply, in nats.

    Positive: the token is less likely without the head.
    """

    effect: Float[Tensor, "layer head token"]
    layers: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `effect`."""
        return "effect"

    @property
    def labels(self) -> dict[str, list]:
        """The layers and the positions of the tokens."""
        return {"layer": list(self.layers), "token": list(self.positions)}

    def change(self, exact: Erasure, unit: Unit = "probability") -> Float[Tensor, "layer head token"]:
        """Return the estimate in the unit of an exact erasure: a small difference δ of ln p is a difference p δ of p."""
        return self.effect if unit == "log_probability" else self.effect * exact.clean.exp()


@final
@dataclass(frozen=True)
class HeadAttribution(Analysis[FirstOrder]):
    """Estimate the effect of erasing each head on every token of a reply, from one forward and one backward pass.

    ln p(z) - ln p(0) ≈ z · ∂ ln p / ∂z, where z is the head's output in the row that predicts the token. It is the linear
    part of erasure `at="step"`, because the gradient stays within the row.

    References: Nanda, Attribution Patching (2023). Differs: patches with zero, and all tokens of a reply share one backward pass.
    """

    want: ClassVar[frozenset[str]] = frozenset({"z"})
    grad: ClassVar[frozenset[str]] = frozenset({"z"})

    @property
    def rows(self) -> Selector:
        """The rows that predict the reply; it reads neither scores nor pattern."""
        return PREDICTING

    @property
    def gradient(self) -> Literal["full", "position"]:
        """Every response token's, in its own row."""
        return "position"

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head token"]:
        """Return one layer's estimates."""
        rows = list(view.layout.positions(PREDICTING))
        z, gradient = (values[n][rows].float() for n in ("z", "z_grad"))
        return -(z * gradient).sum(-1).T.cpu()  # the loss is -ln p

    def finish(self, partials: Mapping[int, Tensor], view: View) -> FirstOrder:
        """Stack the layers."""
        positions = tuple(p + 1 for p in view.layout.positions(PREDICTING))
        return FirstOrder(torch.stack(list(partials.values())), tuple(partials), positions)


def agreement(exact: Erasure, estimate: FirstOrder) -> dict[int, float | None]:
    """Return, for every token by its position, the rank correlation over heads of the estimate with the exact change of ln p.

    In [-1, 1]; None where one of the two does not vary.

    Raises:
        ValueError: they are of different replies or heads.
    """
    if estimate.positions != exact.positions or estimate.effect.shape != exact.erased.shape:
        raise ValueError(
            f"the erasure is of {tuple(exact.erased.shape)} layers, heads and tokens at {exact.positions}, "
            f"the estimate of {tuple(estimate.effect.shape)} at {estimate.positions}: take both from the same prompt"
        )
    known = exact.erased.isfinite().all(-1)
    change = exact.change("log_probability")
    return {p: spearman(change[known][:, i], estimate.effect[known][:, i]) for i, p in enumerate(exact.positions)}


@final
@dataclass(frozen=True)
class Sensitivity(Result):
    """How much more each head supports hallucinated tokens than correct ones.

    `score` is S_h, the mean ΔP of the hallucinated minus that of the correct tokens, with its bootstrap interval `low` to `high`;
    `effect_size` is E_h, S_h over the root of the two variances' sum; `p_value` of Welch's test per head, `q_value` the false
    discovery rate over all heads. With fewer than two tokens in a group no test is possible: scores are 0, p and q are 1,
    and `n_hallucinated` or `n_correct` shows why.
    """

    score: Float[Tensor, "layer head"]
    effect_size: Float[Tensor, "layer head"]
    low: Float[Tensor, "layer head"]
    high: Float[Tensor, "layer head"]
    p_value: Float[Tensor, "layer head"]
    q_value: Float[Tensor, "layer head"]
    n_hallucinated: int
    n_correct: int
    unit: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `score`."""
        return "score"

    def top(self, count: int, *, by: str = "effect_size", most: bool = True, q_below: float = 1.0) -> Heads:
        """Return the most (or least) sensitive heads, best first.

        Args:
            count: the largest number of heads.
            by: the array to rank by.
            most: the largest values first; the smallest otherwise.
            q_below: leave out heads with a larger false discovery rate.

        Raises:
            ValueError: no head is left, or an unknown array.
        """
        if by not in self.axes():
            raise ValueError(f"heads are ranked by one of {', '.join(self.axes())}, got {by!r}")
        values: Tensor = getattr(self, by)
        order = values.flatten().argsort(descending=most, stable=True).tolist()
        width = values.shape[1]
        chosen = [(i // width, i % width) for i in order if float(self.q_value.flatten()[i]) <= q_below]
        if not chosen[:count]:
            raise ValueError(
                f"no head has a false discovery rate of at most {q_below} "
                f"(n = {self.n_hallucinated} hallucinated, {self.n_correct} correct tokens); raise q_below or give more replies"
            )
        return Heads(tuple(chosen[:count]))


def sensitivity(
    hallucinated: Float[Tensor, "layer head token"],
    correct: Float[Tensor, "layer head sample"],
    *,
    unit: Unit = "probability",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Sensitivity:
    """Return how much more each head supports hallucinated tokens than correct ones.

    S_h = mean ΔP over hallucinated tokens - mean ΔP over correct ones; E_h = S_h / sqrt(var over hallucinated + var over correct),
    variances with n - 1. Both 0 where the groups agree.

    Args:
        hallucinated: ΔP of every hallucinated token, see `pool_tokens`.
        correct: ΔP of every correct token.
        unit: the unit of ΔP, which the result carries.
        level: of the bootstrap interval over tokens.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: NaN in ΔP, for heads that were left out of the erasure.

    References: AIR supplement A.1 (S_h and E_h); AD-HH (S_h). Differs: interval, test and false discovery rate are added.
    """
    for values in (hallucinated, correct):
        if not bool(values.isfinite().all()):
            raise ValueError(
                "ΔP is NaN or infinite for some heads; erase all heads, or take the rows of those that were erased"
            )
    shape, counts = hallucinated.shape[:2], (hallucinated.shape[-1], correct.shape[-1])
    if min(counts) < 2:
        a, b, c, d = (torch.zeros(shape) for _ in range(4))
        return Sensitivity(a, b, c, d, torch.ones(shape), torch.ones(shape), *counts, unit)
    score = hallucinated.double().mean(-1) - correct.double().mean(-1)
    spread = (hallucinated.double().var(-1) + correct.double().var(-1)).sqrt()
    effect = torch.where(score == 0, 0.0, score / spread)
    low, high = bootstrap_difference(hallucinated, correct, level=level, resamples=resamples, seed=seed)
    p = welch(hallucinated, correct)[1]
    return Sensitivity(score.float(), effect.float(), low, high, p, false_discovery(p), *counts, unit)


def pool_tokens(
    changes: Sequence[Float[Tensor, "layer head _"]],
    hallucinated: Sequence[Bool[Tensor, " _"]],
    correct: Sequence[Bool[Tensor, " _"]],
) -> tuple[Float[Tensor, "layer head token"], Float[Tensor, "layer head sample"]]:
    """Return ΔP of the hallucinated and of the correct tokens of several replies.

    Args:
        changes: ΔP of every reply, from `Erasure.change`.
        hallucinated: which of its tokens are hallucinated.
        correct: which are correct; tokens that are neither (function words) belong to neither group.

    Raises:
        ValueError: another number of marks than replies or tokens, or a token in both groups.
    """
    if not len(changes) == len(hallucinated) == len(correct) or not changes:
        raise ValueError(
            f"one mask of each kind a reply: got {len(changes)} replies, {len(hallucinated)} and {len(correct)} masks"
        )
    for values, bad, good in zip(changes, hallucinated, correct, strict=True):
        if not values.shape[-1] == len(bad) == len(good):
            raise ValueError(f"a reply of {values.shape[-1]} tokens has masks of {len(bad)} and {len(good)}")
        if bool((bad & good).any()):
            raise ValueError("a token is marked both hallucinated and correct")
    picked = [[v[..., m] for v, m in zip(changes, masks, strict=True)] for masks in (hallucinated, correct)]
    return torch.cat(picked[0], -1), torch.cat(picked[1], -1)
