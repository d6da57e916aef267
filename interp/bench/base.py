"""The base class of benchmarks: samples, a reading of each reply, and scores computed from counts.

`Benchmark` is the base class; `build_benchmark` and `parse_benchmark` make one by name; `sum_counts` and `compute_scores` score the
readings of replies.
"""

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float

from interp.registry import build, discover, parse

Reading = Mapping[str, Any]
"""What a benchmark reads from one reply: names and JSON values."""
Counts = Mapping[str, Float[np.ndarray, "*sample"]]
"""Summed counts by name: one number each, or one per bootstrap draw."""


@final
@dataclass(frozen=True)
class Sample:
    """One question about one image.

    Args:
        id: its id, unique in the benchmark.
        question: the question to the model.
        image: the name of the image for `Benchmark.image`; empty for none.
        truth: what is needed to judge a reply, as JSON data.
        part: the part of the benchmark (a split, a task); every part has its own scores.
        group: samples of one group, such as the questions about one image, are counted together and resampled together for intervals.
            By default, a sample is its own group.
    """

    id: str
    question: str
    image: str = ""
    truth: Mapping[str, Any] = field(default_factory=dict)
    part: str = "all"
    group: str = ""


class Benchmark(abc.ABC):
    """The base class of all benchmarks. Final subclasses are frozen dataclasses, one file each in `interp.bench`.

    Replies are read one by one, readings are counted group by group, counts are summed, and scores are computed from the sums. So
    intervals and paired differences can resample groups without reading any reply twice.

    Attributes:
        reading: the settings that change only how replies are read; a saved run can be read again under others without a model.
        headline: the scores to show first, the most important one at the front.
        lower_is_better: the scores for which lower values are better.
    """

    reading: ClassVar[tuple[str, ...]] = ("parser",)
    headline: ClassVar[tuple[str, ...]] = ()
    lower_is_better: ClassVar[frozenset[str]] = frozenset()

    @property
    @abc.abstractmethod
    def longest(self) -> int:
        """The longest reply, in new tokens."""

    @abc.abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Return the samples, in the order in which they are asked.

        Raises:
            FileNotFoundError: the data are missing; says where to get them.
            ValueError: data that cannot be used, with file and line.
        """

    @abc.abstractmethod
    def image(self, sample: Sample) -> Any:
        """Return the image of a sample; None where it has none.

        Raises:
            FileNotFoundError: the image is missing; names the nearest existing one.
        """

    @abc.abstractmethod
    def read(self, reply: str, sample: Sample) -> Reading:
        """Return the reading of a reply."""

    @abc.abstractmethod
    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return the counts of one group of samples; the same names for every group."""

    @abc.abstractmethod
    def scores(self, counts: Counts) -> dict[str, Float[np.ndarray, "*sample"]]:
        """Return the scores of summed counts; NaN where a score is undefined."""

    def problems(self) -> Sequence[str]:
        """Return the records that could not be used and are left out of `samples`, one line each, with file and line."""
        return ()

    def total(self, parts: Mapping[str, Counts]) -> Counts:
        """Return the scores of the whole benchmark from those of its parts: by default their unweighted means."""
        names = list(next(iter(parts.values())))
        return {n: np.asarray(np.mean([p[n] for p in parts.values()], axis=0)) for n in names}

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        """Return the outcomes that paired tests compare sample by sample: a truth value (McNemar) or a number (Wilcoxon) by name."""
        return {}

    def labels(self, sample: Sample, reply: str) -> list[tuple[int, int, bool]]:
        """Return the mentions of objects in a reply: first character, end, whether hallucinated."""
        return []

    def settings(self) -> dict[str, Any]:
        """Return every setting by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


def ratio(
    part: Float[np.ndarray, "*sample"] | float, whole: Float[np.ndarray, "*sample"] | float
) -> Float[np.ndarray, "*sample"]:
    """Return part / whole; NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=float)
    return np.asarray(np.asarray(part, dtype=float) / np.where(whole == 0, np.nan, whole))


def sum_counts(benchmark: Benchmark, read: Iterable[tuple[Sample, Reading]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the counts of every group of every part: part → group → name → count."""
    groups: dict[str, dict[str, list[tuple[Sample, Reading]]]] = {}
    for sample, reading in read:
        groups.setdefault(sample.part, {}).setdefault(sample.group or sample.id, []).append((sample, reading))
    return {part: {g: benchmark.count(members) for g, members in each.items()} for part, each in groups.items()}


def compute_scores(benchmark: Benchmark, read: Iterable[tuple[Sample, Reading]]) -> dict[str, dict[str, float]]:
    """Return the scores of every part and, under `total`, those of the whole.

    Raises:
        ValueError: `read` is empty.
    """
    counts = sum_counts(benchmark, read)
    if not counts:
        raise ValueError("nothing to score: no sample has a reply")
    parts = {}
    for part, groups in counts.items():
        names = next(iter(groups.values()))
        parts[part] = benchmark.scores({n: np.asarray(sum(g[n] for g in groups.values()), dtype=float) for n in names})
    every = {**parts, "total": benchmark.total(parts)}
    return {part: {n: float(v) for n, v in scores.items()} for part, scores in every.items()}


def benchmarks() -> dict[str, type[Benchmark]]:
    """Return every benchmark of `interp.bench` by name."""
    return discover("interp.bench", Benchmark)  # type: ignore[type-abstract]


def build_benchmark(name: str, **settings: Any) -> Benchmark:
    """Return the benchmark of a name, with some of its settings: `build_benchmark("pope", data="coco_pope_random.json", images="val2014")`.

    Raises:
        ValueError: no such benchmark or setting; lists the known ones and names the nearest.
    """
    return build("benchmark", benchmarks(), name, settings)


def parse_benchmark(text: str) -> Benchmark:
    """Return the benchmark of a text such as `pope` or `pope:data=FILE,images=FOLDER,parser=vcd`.

    Raises:
        ValueError: an unknown benchmark or setting, with the nearest known one, or a setting that is not NAME=VALUE.
    """
    name, settings = parse(text)
    return build_benchmark(name, **settings)
