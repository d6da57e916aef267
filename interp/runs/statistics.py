"""Bootstrap intervals of scores, and tests of differences between two runs on the same samples.

`bootstrap_scores` and `percentile_interval` make intervals; `compare_pairs` chooses between `mcnemar` and `wilcoxon`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from interp.bench.base import Benchmark

PartCounts = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Counts as `interp.bench.base.sum_counts` returns them: part → group → name → count."""
ScoreDraws = dict[str, dict[str, np.ndarray]]
"""Scores by part (and `total`) and name: one value per draw."""

_LEVEL = 0.95
_CHUNK = 256
"""Draws that are held in memory at once."""


@final
@dataclass(frozen=True)
class PairedTest:
    """A paired test of one outcome.

    Args:
        kind: `mcnemar` or `wilcoxon`.
        n: the number of samples with both outcomes.
        better: in how many of them the outcome of the method is larger.
        worse: in how many the outcome of the baseline is larger.
        p: the two-sided p-value.
    """

    kind: str
    n: int
    better: int
    worse: int
    p: float


def bootstrap_scores(
    benchmark: Benchmark, runs: Sequence[PartCounts], *, draws: int = 2000, seed: int = 0
) -> list[ScoreDraws]:
    """Return the scores of runs when the groups of every part are drawn again with replacement, with the same draws for all runs.

    Args:
        benchmark: computes the scores.
        runs: the counts of each run; all have the same groups.
        draws: the number of draws.
        seed: seed of the draws.

    Raises:
        ValueError: the runs have different groups.

    References: Efron, Bootstrap methods: another look at the jackknife (1979); groups instead of samples because the questions
    about one image are not independent.
    """
    if any({p: set(g) for p, g in r.items()} != {p: set(g) for p, g in runs[0].items()} for r in runs):
        raise ValueError(
            "runs are drawn together only over the same groups; leave out the samples that one of them lacks"
        )
    generator = np.random.default_rng(seed)
    parts: list[ScoreDraws] = [{} for _ in runs]
    for part, groups in runs[0].items():
        names = list(next(iter(groups.values())))
        table = np.array([[[run[part][g][n] for n in names] for run in runs] for g in groups], dtype=float)
        totals = _redrawn(table, draws, generator)
        for scores, run_totals in zip(parts, np.moveaxis(totals, 1, 0), strict=True):
            scores[part] = _scores(benchmark, dict(zip(names, run_totals.T, strict=True)))
    return [{**each, "total": {n: np.asarray(v) for n, v in benchmark.total(each).items()}} for each in parts]


def _redrawn(
    table: Float[np.ndarray, "sample candidate _"], draws: int, generator: np.random.Generator
) -> Float[np.ndarray, "_ candidate _"]:
    """Return sums over groups that are drawn again with replacement."""
    groups = len(table)
    sums = []
    for first in range(0, draws, _CHUNK):
        weights = generator.multinomial(groups, np.full(groups, 1 / groups), size=min(_CHUNK, draws - first))
        sums.append(np.tensordot(weights.astype(float), table, 1))
    return np.concatenate(sums)


def _scores(benchmark: Benchmark, counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {n: np.asarray(v, dtype=float) for n, v in benchmark.scores(counts).items()}


def percentile_interval(values: Float[np.ndarray, " sample"], level: float = _LEVEL) -> tuple[float, float]:
    """Return the percentile interval of drawn values, without draws in which the score is undefined."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare_pairs(method: Sequence[bool | float], baseline: Sequence[bool | float]) -> PairedTest:
    """Return the test that fits the outcomes: McNemar's for truth values, Wilcoxon's signed ranks for numbers.

    Pairs in which either number is NaN or infinite are left out.

    Raises:
        ValueError: the two sides have different numbers of outcomes.
    """
    if len(method) != len(baseline):
        raise ValueError(f"both runs need the same number of outcomes, got {len(method)} and {len(baseline)}")
    if all(isinstance(v, (bool, np.bool_)) for v in (*method, *baseline)):
        return mcnemar([bool(v) for v in method], [bool(v) for v in baseline])
    return wilcoxon(np.asarray(method, dtype=float), np.asarray(baseline, dtype=float))


def mcnemar(method: Sequence[bool], baseline: Sequence[bool]) -> PairedTest:
    """Return McNemar's exact test: whether, among the pairs that differ, one side is right more often than by chance.

    Without any pair that differs, p is 1.

    References: McNemar (1947); exact, by the binomial distribution.
    """
    from scipy.stats import binomtest

    better = sum(m and not b for m, b in zip(method, baseline, strict=True))
    worse = sum(b and not m for m, b in zip(method, baseline, strict=True))
    p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return PairedTest("mcnemar", len(method), better, worse, p)


def wilcoxon(method: Float[np.ndarray, " sample"], baseline: Float[np.ndarray, " sample"]) -> PairedTest:
    """Return Wilcoxon's signed-rank test over the pairs that differ; without any such pair, p is 1.

    References: Wilcoxon (1945), as scipy computes it.
    """
    from scipy import stats

    both = np.isfinite(method) & np.isfinite(baseline)
    difference = (method - baseline)[both]
    p = float(stats.wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return PairedTest("wilcoxon", int(both.sum()), int((difference > 0).sum()), int((difference < 0).sum()), p)
