"""Intervals and paired tests against what can be worked out otherwise."""

import math
from itertools import product

import numpy as np
import pytest

from interp.bench.base import sum_counts
from interp.runs.statistics import bootstrap_scores, compare_pairs, mcnemar, percentile_interval, wilcoxon


def test_mcnemar_by_hand() -> None:
    method = [True] * 8 + [False] * 2 + [True] * 5
    baseline = [False] * 8 + [True] * 2 + [True] * 5
    test = mcnemar(method, baseline)
    assert (test.better, test.worse, test.n) == (8, 2, 15)
    assert test.p == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)  # 112 / 1024
    assert mcnemar(baseline, method).p == pytest.approx(test.p)


def test_without_a_difference_nothing_is_told_apart() -> None:
    assert mcnemar([True, False], [True, False]).p == 1
    assert wilcoxon(np.array([1.0, 2.0]), np.array([1.0, 2.0])).p == 1
    assert compare_pairs([], []).p == 1


def test_wilcoxon_is_the_share_of_signs_with_as_extreme_a_rank_sum() -> None:
    differences = np.array([0.3, 1.1, -0.2, 2.5, 0.7, 1.9, -1.4])
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [np.dot(signs, ranks) for signs in product([0, 1], repeat=7)]
    test = wilcoxon(differences, np.zeros(7))
    assert test.p == pytest.approx(2 * np.mean([s <= seen for s in sums]))
    assert (test.better, test.worse) == (5, 2)


def test_the_kind_of_test_is_that_of_the_outcomes() -> None:
    assert compare_pairs([True, False], [False, False]).kind == "mcnemar"
    assert compare_pairs([1.0, 0.5], [0.5, 0.2]).kind == "wilcoxon"
    assert compare_pairs([1.0, math.nan, 2.0], [0.5, 1.0, 1.0]).n == 2
    with pytest.raises(ValueError, match="both runs need the same number of outcomes, got 1 and 2"):
        compare_pairs([1.0], [1.0, 2.0])


def answers(benchmark, generator):
    texts = ["".join(generator.choice(list("abe"), size=generator.integers(1, 6))) for _ in benchmark.samples()]
    return [(s, benchmark.read(t, s)) for s, t in zip(benchmark.samples(), texts, strict=True)]


def test_the_interval_of_a_mean_is_that_of_drawing_groups_one_by_one(letters) -> None:
    generator = np.random.default_rng(0)
    benchmark = letters(n=40)
    read = answers(benchmark, generator)
    drawn = bootstrap_scores(benchmark, [sum_counts(benchmark, read)], draws=4000)[0]
    lengths = {}
    for sample, reading in read:
        lengths.setdefault(sample.part, {}).setdefault(sample.group, []).append(reading["length"])
    slow = []
    for _ in range(4000):
        means = []
        for groups in lengths.values():
            again = generator.choice(len(groups), size=len(groups))
            means.append(np.mean(np.concatenate([list(groups.values())[g] for g in again])))
        slow.append(np.mean(means))
    assert drawn["total"]["length"].shape == (4000,)
    np.testing.assert_allclose(
        percentile_interval(drawn["total"]["length"]), np.quantile(slow, [0.025, 0.975]), atol=0.05
    )
    np.testing.assert_allclose(drawn["total"]["length"].std(), np.std(slow), rtol=0.06)


def test_pairs_share_their_draws(letters) -> None:
    benchmark = letters(n=40)
    one = answers(benchmark, np.random.default_rng(1))
    more = [(s, {**r, "length": r["length"] + 1}) for s, r in one]
    first, second = bootstrap_scores(benchmark, [sum_counts(benchmark, one), sum_counts(benchmark, more)], draws=300)
    np.testing.assert_allclose(second["total"]["length"] - first["total"]["length"], 1)
    again = bootstrap_scores(benchmark, [sum_counts(benchmark, one)], draws=300)[0]
    np.testing.assert_array_equal(again["left"]["length"], first["left"]["length"])


def test_groups_that_are_not_the_same_are_refused(letters) -> None:
    benchmark = letters(n=8)
    read = answers(benchmark, np.random.default_rng(1))
    with pytest.raises(ValueError, match="only over the same groups"):
        bootstrap_scores(benchmark, [sum_counts(benchmark, read), sum_counts(benchmark, read[:5])], draws=10)


def test_draws_without_a_score_do_not_count() -> None:
    low, high = percentile_interval(np.array([np.nan, 1.0, 2.0, 3.0]))
    assert 1 <= low < high <= 3
    assert all(map(math.isnan, percentile_interval(np.array([np.nan]))))
