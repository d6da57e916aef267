import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interp.analysis.statistics import (
    Comparison,
    auroc,
    bootstrap_difference,
    cohens_d,
    compare_groups,
    false_discovery,
    hallucination_by_score,
    permutation_p,
    spearman,
    welch,
    wilson,
)

T = torch.tensor
SMALL = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8)


def test_cohens_d_by_hand():
    # means 2 and 5, sums of squares 2 and 8, three and two degrees of freedom less one: sqrt((2 + 8) / 4)
    assert cohens_d(T([1.0, 2.0, 3.0]), T([3.0, 5.0, 7.0])) == pytest.approx(-3 / np.sqrt(10 / 4))
    assert cohens_d(T([1.0, 1.0]), T([1.0])) == 0
    assert cohens_d(T([2.0, 2.0]), T([1.0])) == float("inf")


def test_auroc_by_hand_and_with_ties():
    assert auroc(T([2.0, 3.0]), T([1.0])) == 1
    assert auroc(T([0.0]), T([1.0, 2.0])) == 0
    assert auroc(T([1.0, 2.0]), T([1.0, 0.0])) == pytest.approx((0.5 + 1 + 1 + 1) / 4)


@given(SMALL, SMALL)
def test_auroc_counts_pairs(one, other):
    pairs = [(a > b) + 0.5 * (a == b) for a in one for b in other]
    assert auroc(T(one), T(other)) == pytest.approx(np.mean(pairs))


def test_the_permutation_test_agrees_with_all_ways_to_shuffle():
    one, other = [1.0, 2.0, 2.5, 4.0, 3.0], [2.0, 5.0, 6.0, 4.5]
    both, seen = np.array(one + other), abs(np.mean(one) - np.mean(other))
    groups = [np.isin(np.arange(9), chosen) for chosen in itertools.combinations(range(9), 5)]
    exact = np.mean([abs(both[g].mean() - both[~g].mean()) >= seen - 1e-9 for g in groups])
    assert permutation_p(T(one), T(other), permutations=20_000) == pytest.approx(exact, abs=0.01)
    assert permutation_p(T([1.0, 1.0]), T([1.0])) == 1
    assert permutation_p(T(one), T(other), seed=3) == permutation_p(T(one), T(other), seed=3)


def test_wilson_by_hand():
    z = stats.norm.ppf(0.975)
    centre, half = (3 + z**2 / 2) / (10 + z**2), z / (10 + z**2) * np.sqrt(3 * 7 / 10 + z**2 / 4)
    assert wilson(3, 10) == pytest.approx((centre - half, centre + half))
    assert wilson(0, 0) == (0, 1)


def test_benjamini_hochberg_by_hand():
    torch.testing.assert_close(false_discovery(T([[0.01, 0.04], [0.03, 0.5]])), T([[0.04, 0.16 / 3], [0.16 / 3, 0.5]]))
    assert false_discovery(torch.tensor([])).shape == (0,)


def test_welch_agrees_with_scipy_for_every_head():
    one, other = torch.randn(3, 2, 7), torch.randn(3, 2, 5) + 0.5
    t, p = welch(one, other)
    wanted = stats.ttest_ind(one.numpy(), other.numpy(), axis=-1, equal_var=False)
    torch.testing.assert_close(t, torch.from_numpy(wanted.statistic).float())
    torch.testing.assert_close(p, torch.from_numpy(wanted.pvalue).float())
    same, certain = welch(torch.ones(1, 3), torch.ones(1, 2))
    assert same.tolist() == [0]
    assert certain.tolist() == [1]
    apart, never = welch(torch.ones(3), torch.zeros(2))  # neither group varies, and the means differ
    assert (float(apart), float(never)) == (float("inf"), 0)


def test_the_bootstrap_covers_the_difference_and_shrinks_to_it():
    one, other = torch.randn(2, 400) + 1, torch.randn(2, 300)
    low, high = bootstrap_difference(one, other)
    difference = one.mean(-1) - other.mean(-1)
    assert bool(((low < difference) & (difference < high)).all())
    width = 2 * 1.96 * (one.var(-1) / 400 + other.var(-1) / 300).sqrt()
    torch.testing.assert_close(high - low, width, rtol=0.15, atol=0)
    flat, _ = bootstrap_difference(torch.full((1, 4), 3.0), torch.full((1, 2), 1.0))
    torch.testing.assert_close(flat, T([2.0]))


def test_spearman():
    assert spearman(T([1.0, 2, 3]), T([10.0, 20.0, 15.0])) == pytest.approx(0.5)
    assert spearman(T([1.0, 2]), T([5.0, 5])) is None
    assert spearman(T([1.0]), T([5.0])) is None


def test_compare_by_hand():
    score, bad = T([0.1, 0.2, 0.4, 0.5, 0.6, 0.9]), T([True, True, False, False, True, False])
    found = compare_groups(score, bad, bins=3, resamples=200)
    assert (found.n_hallucinated, found.n_correct) == (3, 3)
    assert found.mean_hallucinated == pytest.approx(0.3)
    assert found.mean_correct == pytest.approx(0.6)
    assert found.cohens_d == pytest.approx(cohens_d(score[~bad], score[bad]))
    assert found.auroc == pytest.approx(7 / 9)
    low, high = found.auroc_interval
    assert 0 <= low <= 7 / 9 <= high <= 1
    assert 0 < found.p_value <= 1
    assert [b[2:4] for b in found.bins] == [(2, 2), (2, 0), (2, 1)]
    assert "AUROC 0.778" in str(found)


def test_without_hallucinated_tokens_n_is_0_and_nothing_is_nan(tmp_path):
    found = compare_groups(T([0.3, 0.4]), T([False, False]))
    assert (found.n_hallucinated, found.n_correct) == (0, 2)
    assert found.mean_hallucinated is found.auroc is found.cohens_d is found.p_value is found.auroc_interval is None
    assert str(found) == "n = 0 hallucinated, 2 correct: nothing to compare"
    again = Comparison.load(found.save(tmp_path / "c.safetensors"))
    assert again.bins == found.bins
    nothing = compare_groups(T([]), T([]).bool())
    assert (nothing.n_hallucinated, nothing.n_correct, nothing.bins) == (0, 0, ())


def test_a_saved_comparison_comes_back(tmp_path):
    found = compare_groups(T([0.1, 0.2, 0.4]), T([True, False, False]), resamples=20)
    again = Comparison.load(found.save(tmp_path / "c.safetensors"))
    assert (again.auroc, again.auroc_interval, again.bins) == (found.auroc, found.auroc_interval, found.bins)
    assert found.frame()["value"].tolist() == pytest.approx([0.1, 0.2, 0.4])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20), st.integers(1, 6))
def test_every_token_falls_in_one_bin(pairs, bins):
    score, bad = T([float(s) for s, _ in pairs]), T([b for _, b in pairs])
    found = hallucination_by_score(score, bad, bins=bins)
    assert sum(b[2] for b in found) == len(pairs)
    assert sum(b[3] for b in found) == int(bad.sum())
    assert all(low <= high and 0 <= b[4] <= b[5] <= 1 for b in found for low, high in [b[:2]])


def test_what_makes_no_statistics_is_refused():
    with pytest.raises(ValueError, match="both groups and three numbers in all, got 1 and 1"):
        cohens_d(T([1.0]), T([2.0]))
    with pytest.raises(ValueError, match="both groups, got 0 and 1"):
        auroc(T([]), T([2.0]))
    with pytest.raises(ValueError, match="both groups, got 1 and 0"):
        permutation_p(T([1.0]), T([]))
    with pytest.raises(ValueError, match="two numbers in each group, got 1 and 2"):
        welch(T([1.0]), T([2.0, 3.0]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        compare_groups(T([float("nan")]), T([True]))
    with pytest.raises(ValueError, match="at least 1 and level is in"):
        compare_groups(T([1.0]), T([True]), bins=0)
