"""The protocol of benchmarks: from readings to counts to scores, and the checks that every benchmark passes."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import pytest

from interp.bench.base import Benchmark, Sample, benchmarks, build_benchmark, compute_scores, ratio, sum_counts
from interp.testing.benchmarks import check_benchmark


@final
@dataclass(frozen=True)
class Sums(Benchmark):
    """How much is two and two: a benchmark of four questions in two parts."""

    longest: int = 4
    broken: str = ""

    reading: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[tuple[str, ...]] = ("right",)

    def samples(self):
        asked = [
            Sample(f"{i}", "2 + 2?", truth={"answer": "yes"}, part="ab"[i % 2], group="g" if i < 2 else "")
            for i in range(4)
        ]
        return [*asked, asked[0]] if self.broken == "samples" else asked

    def image(self, sample) -> Any:
        return "nowhere.png" if self.broken == "images" else None

    def read(self, reply, sample):
        said = reply.lower().startswith(sample.truth["answer"])
        return {"said": {said} if self.broken == "plain data" else said, "length": len(reply)}

    def count(self, group):
        right = float(sum(r["said"] is True for _, r in group))
        return {"asked": float(len(group)), "right": right, "length": float(sum(r["length"] for _, r in group))}

    def scores(self, counts):
        each = ratio(counts["right"], counts["asked"] - counts["right"])
        if self.broken == "scores":
            each = np.asarray(float(np.sum(counts["right"])))
        return {"right": ratio(counts["right"], counts["asked"]), "odds": each}

    def outcome(self, sample, reading):
        return {"right": reading["said"] is True} if self.broken != "outcomes" or reading["length"] else {}

    def labels(self, sample, reply):
        return [(0, len(reply) + 1, True)] if self.broken == "labels" else []


def test_counts_are_summed_by_part_and_group():
    samples = Sums().samples()
    read = [(s, Sums().read(r, s)) for s, r in zip(samples, ["yes", "no", "yes", "yes"], strict=True)]
    assert sum_counts(Sums(), read) == {
        "a": {"g": {"asked": 1, "right": 1, "length": 3}, "2": {"asked": 1, "right": 1, "length": 3}},
        "b": {"g": {"asked": 1, "right": 0, "length": 2}, "3": {"asked": 1, "right": 1, "length": 3}},
    }
    got = compute_scores(Sums(), read)
    assert got["b"] == {"right": 0.5, "odds": 1}
    assert got["total"]["right"] == 0.75
    assert np.isnan(got["a"]["odds"])


def test_one_image_asked_twice_is_one_group():
    samples = [replace(s, part="a") for s in Sums().samples()]
    groups = sum_counts(Sums(), [(s, Sums().read("yes", s)) for s in samples])["a"]
    assert {g: c["asked"] for g, c in groups.items()} == {"g": 2, "2": 1, "3": 1}


def test_nothing_cannot_be_scored():
    with pytest.raises(ValueError, match="nothing to score: no sample has a reply"):
        compute_scores(Sums(), [])


def test_a_ratio_without_a_whole_is_not_a_number():
    np.testing.assert_array_equal(ratio(np.array([1.0, 2.0]), np.array([2.0, 0.0])), [0.5, np.nan])
    assert isinstance(ratio(1.0, 0.0), np.ndarray)


SMALL = {"pope": {"n": 4}, "chair": {"n": 4}, "mme": {"n": 4}, "steps": {"n": 4}}


@pytest.mark.parametrize("name", benchmarks())
def test_every_benchmark_passes_the_checks(name):
    failed = [
        f"{c.name}: {c.detail}" for c in check_benchmark(build_benchmark(name, **SMALL.get(name, {}))) if not c.passed
    ]
    assert not failed, "\n".join(failed)


def test_a_sound_benchmark_of_ones_own_passes():
    assert all(c.passed for c in check_benchmark(Sums()))


@pytest.mark.parametrize("broken", ["samples", "plain data", "images", "scores", "outcomes", "labels"])
def test_what_is_broken_fails_its_check(broken):
    assert [c.name for c in check_benchmark(Sums(broken=broken)) if not c.passed] == [broken]
