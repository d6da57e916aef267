"""Comparison of two groups of numbers: effect sizes, ranks, intervals and tests, for one quantity or for all heads at once.

`compare_groups` computes all of them for a score of hallucinated and correct tokens, as a `Comparison`.
"""

import warnings
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from interp.data.result import Result


def cohens_d(one: Float[Tensor, " token"], other: Float[Tensor, " sample"]) -> float:
    """Return the difference of two means in standard deviations.

    d = (mean one - mean other) / sqrt(((n - 1) var one + (m - 1) var other) / (n + m - 2)), variances with n - 1. 0 when the two
    means are equal; infinite when they differ and neither group varies.

    Raises:
        ValueError: fewer than one number in a group, or three in both together.

    References: Cohen, Statistical Power Analysis (1988), section 2.2. Differs: no.
    """
    n, m = len(one), len(other)
    if not n or not m or n + m < 3:
        raise ValueError(f"Cohen's d needs both groups and three numbers in all, got {n} and {m}")
    one, other = one.double(), other.double()
    spread = ((one - one.mean()).square().sum() + (other - other.mean()).square().sum()) / (n + m - 2)
    difference = one.mean() - other.mean()
    return float(difference / spread.sqrt()) if float(difference) else 0.0


def auroc(positive: Float[Tensor, " token"], negative: Float[Tensor, " sample"]) -> float:
    """Return the probability that a number of the first group exceeds one of the second; a tie counts half.

    In [0, 1]; 0.5 when the two groups cannot be distinguished.

    Raises:
        ValueError: an empty group.

    References: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve (1982). Differs: no.
    """
    if not len(positive) or not len(negative):
        raise ValueError(f"the AUROC needs both groups, got {len(positive)} and {len(negative)} numbers")
    ranks = stats.rankdata(torch.cat([positive, negative]).double().numpy())
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def permutation_p(
    one: Float[Tensor, " token"], other: Float[Tensor, " sample"], *, permutations: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p value, in (0, 1], of a permutation test on the difference of two means.

    (1 + number of shuffles with |difference| at least as large) / (1 + number of shuffles).

    Raises:
        ValueError: an empty group.

    References: Phipson and Smyth, Permutation P-values Should Never Be Zero (2010), equation 2. Differs: no.
    """
    if not len(one) or not len(other):
        raise ValueError(f"a permutation test needs both groups, got {len(one)} and {len(other)} numbers")
    both, n = torch.cat([one, other]).double(), len(one)
    both = both - both.mean()
    generator = torch.Generator().manual_seed(seed)
    seen = (both[:n].mean() - both[n:].mean()).abs()
    further = 0
    for start in range(0, permutations, 1000):
        shuffled = both[torch.rand(min(1000, permutations - start), len(both), generator=generator).argsort(1)]
        apart = (shuffled[:, :n].mean(1) - shuffled[:, n:].mean(1)).abs()
        further += int((apart >= seen * (1 - 1e-9)).sum())
    return (1 + further) / (1 + permutations)


def wilson(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion; (0, 1) for n = 0.

    References: Wilson, Probable Inference (1927). Differs: no.
    """
    if not n:
        return 0.0, 1.0
    found = stats.binomtest(hits, n).proportion_ci(confidence_level=level, method="wilson")
    return float(found.low), float(found.high)


def false_discovery(p: Float[Tensor, "*layer head"]) -> Float[Tensor, "*layer head"]:
    """Return the q value of every p value: the smallest false discovery rate at which it is accepted.

    References: Benjamini and Hochberg, Controlling the False Discovery Rate (1995). Differs: no.
    """
    flat = p.double().flatten().numpy()
    return torch.from_numpy(stats.false_discovery_control(flat)).reshape(p.shape).to(p.dtype)


Bin = tuple[float, float, int, int, float, float]
"""One range of a score: from, to, tokens, hallucinated tokens, and Wilson's interval of their share."""


@final
@dataclass(frozen=True)
class Comparison(Result):
    """A score of hallucinated tokens compared with that of correct ones.

    Everything that needs both groups is None if one is empty; `n_hallucinated` and `n_correct` show which.

    Args:
        score: the score of every compared token.
        hallucinated: which of them are hallucinated.
        n_hallucinated: how many are.
        n_correct: how many are not.
        mean_hallucinated: their mean.
        mean_correct: the mean of the others.
        cohens_d: the difference of the means, correct minus hallucinated, in pooled standard deviations.
        auroc: the probability that a correct token's score exceeds a hallucinated one's, in [0, 1].
        auroc_interval: bootstrap percentile interval of it.
        p_value: of the permutation test on the difference of the means, two-sided.
        bins: P(hallucinated | score) over ranges that hold equally many tokens.
    """

    score: Float[Tensor, " token"]
    hallucinated: Bool[Tensor, " token"]
    n_hallucinated: int
    n_correct: int
    mean_hallucinated: float | None
    mean_correct: float | None
    cohens_d: float | None
    auroc: float | None
    auroc_interval: tuple[float, float] | None
    p_value: float | None
    bins: tuple[Bin, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `score`."""
        return "score"

    def __str__(self) -> str:
        """Return a summary in one line."""
        sizes = f"n = {self.n_hallucinated} hallucinated, {self.n_correct} correct"
        if self.auroc is None or self.auroc_interval is None or self.p_value is None:
            return f"{sizes}: nothing to compare"
        low, high = self.auroc_interval
        means = f"means {self.mean_hallucinated:.4g} and {self.mean_correct:.4g}"
        effect = "" if self.cohens_d is None else f"d {self.cohens_d:.3f}, "
        return f"{sizes}: {means}, {effect}AUROC {self.auroc:.3f} [{low:.3f}, {high:.3f}], p {self.p_value:.2g}"


def compare_groups(
    score: Float[Tensor, " token"],
    hallucinated: Bool[Tensor, " token"],
    *,
    bins: int = 5,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Return the comparison of a score between hallucinated and correct tokens.

    Positive d and an AUROC above 0.5 mean that correct tokens score higher, as LVLMs-Saliency reports of its saliency.

    Args:
        score: one number per token.
        hallucinated: which tokens are hallucinated; leave tokens that are neither (function words) out of both arguments.
        bins: the number of ranges of P(hallucinated | score); fewer if many scores are equal.
        level: of the bootstrap interval.
        resamples: bootstrap samples, and permutations times five.
        seed: of both.

    Raises:
        ValueError: scores that are NaN or infinite, or settings out of range.

    References: LVLMs-Saliency Table 4 and its figure of P(hallucinated | saliency). Differs: the papers give neither interval nor
    test.
    """
    if not bool(score.isfinite().all()):
        raise ValueError("a score is NaN or infinite; leave out tokens that have none")
    if bins < 1 or resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"bins and resamples are at least 1 and level is in (0, 1), got {bins}, {resamples} and {level}"
        )
    score, hallucinated = score.detach().cpu().float(), hallucinated.cpu()
    bad, good = score[hallucinated], score[~hallucinated]
    both = bool(len(bad) and len(good))
    return Comparison(
        score,
        hallucinated,
        len(bad),
        len(good),
        float(bad.mean()) if len(bad) else None,
        float(good.mean()) if len(good) else None,
        cohens_d(good, bad) if both and len(score) > 2 else None,
        auroc(good, bad) if both else None,
        _auroc_interval(good, bad, level, resamples, seed) if both else None,
        permutation_p(good, bad, permutations=5 * resamples, seed=seed) if both else None,
        hallucination_by_score(score, hallucinated, bins=bins, level=level),
    )


def _auroc_interval(good: Tensor, bad: Tensor, level: float, resamples: int, seed: int) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda group: group[torch.randint(len(group), (resamples, len(group)), generator=generator)]  # noqa: E731
    both = torch.cat([draw(good), draw(bad)], 1).double()
    ranks, n, m = stats.rankdata(both.numpy(), axis=1), len(good), len(bad)
    areas = torch.from_numpy((ranks[:, :n].sum(1) - n * (n + 1) / 2) / (n * m))
    low, high = (float(areas.quantile(q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def hallucination_by_score(
    score: Float[Tensor, " token"], hallucinated: Bool[Tensor, " token"], *, bins: int = 5, level: float = 0.95
) -> tuple[Bin, ...]:
    """Return P(hallucinated | score) over ranges that hold equally many tokens, lowest first.

    Each range includes its lower edge, the last one also its upper edge; equal edges are merged. Without tokens, no ranges.
    """
    if not len(score):
        return ()
    edges = torch.unique(score.double().quantile(torch.linspace(0, 1, bins + 1, dtype=torch.float64)))
    edges = torch.stack([edges[0], edges[0]]) if len(edges) == 1 else edges
    which = (torch.bucketize(score.double(), edges, right=True) - 1).clamp(0, len(edges) - 2)
    found = []
    for i in range(len(edges) - 1):
        n, hits = int((which == i).sum()), int((hallucinated & (which == i)).sum())
        found.append((float(edges[i]), float(edges[i + 1]), n, hits, *wilson(hits, n, level=level)))
    return tuple(found)


def welch(
    one: Float[Tensor, "*layer token"], other: Float[Tensor, "*layer sample"]
) -> tuple[Float[Tensor, "*layer"], Float[Tensor, "*layer"]]:
    """Return Welch's t and its two-sided p value along the last axis; t 0 and p 1 where neither group varies and means agree.

    Raises:
        ValueError: fewer than two numbers in a group.
    """
    if one.shape[-1] < 2 or other.shape[-1] < 2:
        raise ValueError(f"Welch's test needs two numbers in each group, got {one.shape[-1]} and {other.shape[-1]}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scipy warns about groups that do not vary; equal means are handled below, different ones give t = inf, p = 0
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.ttest_ind(one.double().numpy(), other.double().numpy(), axis=-1, equal_var=False)
    t, p = (torch.from_numpy(np.asarray(v)) for v in (found.statistic, found.pvalue))
    equal = one.double().mean(-1) == other.double().mean(-1)
    t, p = t.masked_fill(equal, 0.0), p.masked_fill(equal, 1.0)
    return t.float(), p.float()


def bootstrap_difference(
    one: Float[Tensor, "*layer token"],
    other: Float[Tensor, "*layer sample"],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Float[Tensor, "*layer"], Float[Tensor, "*layer"]]:
    """Return the bounds of the bootstrap percentile interval of mean one - mean other, along the last axis.

    All entries share the draws, so that a thousand heads cost two matrix products.
    """
    generator = torch.Generator().manual_seed(seed)
    means = []
    for group in (one, other):
        n = group.shape[-1]
        drawn = torch.randint(n, (resamples, n), generator=generator)
        counts = torch.zeros(resamples, n, dtype=torch.float64)
        counts.scatter_add_(1, drawn, torch.ones_like(counts))
        means.append(group.double() @ counts.T / n)
    apart = means[0] - means[1]
    low, high = (apart.quantile(q, dim=-1).float() for q in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def spearman(one: Float[Tensor, "*layer"], other: Float[Tensor, "*layer"]) -> float | None:
    """Return Spearman's rank correlation, in [-1, 1]; None with fewer than two pairs or a constant side."""
    a, b = (x.double().flatten().numpy() for x in (one, other))
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    return float(stats.spearmanr(a, b).statistic)
