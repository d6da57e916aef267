"""A run with its parsed replies, and the rows that a comparison table has about it.

`ParsedRun.parse` reads the replies of a finished run; `compare_outcomes` tests several runs against the first in pairs; `build_rows`
makes the rows of a table: scores with intervals, paired differences, tests and costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch

from interp.analysis.statistics import false_discovery
from interp.bench.base import Benchmark, Reading, Sample, compute_scores, sum_counts
from interp.runs.directory import Run
from interp.runs.row import Row
from interp.runs.statistics import PairedTest, bootstrap_scores, compare_pairs, percentile_interval

OutcomeTests = Mapping[str, tuple[PairedTest, float]]
"""By outcome: the test against the baseline, and its q-value across the methods."""


@final
@dataclass(frozen=True, eq=False)
class ParsedRun:
    """A run with its parsed replies.

    Args:
        run: the run.
        label: its name in the table.
        rows: its rows.
        read: sample and reading of every row that has a reply, by the sample's id.
    """

    run: Run
    label: str
    rows: Sequence[Row] = field(repr=False)
    read: Mapping[str, tuple[Sample, Reading]] = field(repr=False)

    @classmethod
    def parse(cls, run: Run, benchmark: Benchmark, label: str) -> "ParsedRun":
        """Parse the replies of a run.

        Raises:
            ValueError: no row has a reply.
        """
        rows = run.rows()
        read = {r.id: (r.sample, benchmark.read(r.reply, r.sample)) for r in rows if not r.error}
        if not read:
            raise ValueError(
                f"none of the {len(rows)} samples of {run.name} has a reply; the error of the first: {rows[0].error}"
            )
        return cls(run, label, rows, read)

    def select(self, ids: Mapping[str, Any]) -> list[tuple[Sample, Reading]]:
        """Return sample and reading of the given samples."""
        return [pair for name, pair in self.read.items() if name in ids]

    def to_json(self, benchmark: Benchmark) -> dict[str, Any]:
        """Return the entry of this run in scores.json."""
        scores = compute_scores(benchmark, self.read.values())
        plain = {p: {n: v if math.isfinite(v) else None for n, v in s.items()} for p, s in scores.items()}
        return {"samples": len(self.rows), "failed": len(self.rows) - len(self.read), "scores": plain}


def label_runs(runs: Sequence[Run]) -> list[str]:
    """Return the names of the methods, numbered where several runs have the same method."""
    names = [r.method for r in runs]
    return [n if names[:i].count(n) == 0 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names)]


def describe_reading(benchmark: Benchmark) -> str:
    """Return the settings that change only how replies are read, as text."""
    settings = benchmark.settings()
    return ",".join(f"{n}={settings[n]}" for n in benchmark.reading if n in settings)


def compare_outcomes(benchmark: Benchmark, answers: Sequence[ParsedRun]) -> dict[str, OutcomeTests]:
    """Return the tests of every run against the first, by label; q-values correct across the runs, separately for each outcome."""
    baseline, *others = answers
    tests_of = {one.label: _paired(benchmark, one, baseline) for one in others}
    outcomes = dict.fromkeys(name for tests in tests_of.values() for name in tests)
    qs: dict[tuple[str, str], float] = {}
    for name in outcomes:
        having = [label for label, tests in tests_of.items() if name in tests]
        q = false_discovery(torch.tensor([tests_of[label][name].p for label in having], dtype=torch.float64)).tolist()
        qs |= zip([(label, name) for label in having], q, strict=True)
    tested = {label: {n: (t, qs[label, n]) for n, t in tests.items()} for label, tests in tests_of.items()}
    return {baseline.label: {}, **tested}


def _paired(benchmark: Benchmark, one: ParsedRun, baseline: ParsedRun) -> dict[str, PairedTest]:
    pairs: dict[str, tuple[list[bool | float], list[bool | float]]] = {}
    for name, (sample, reading) in one.read.items():
        if name not in baseline.read:
            continue
        mine, theirs = benchmark.outcome(sample, reading), benchmark.outcome(*baseline.read[name])
        for outcome in (o for o in mine if o in theirs):
            each = pairs.setdefault(outcome, ([], []))
            each[0].append(mine[outcome])
            each[1].append(theirs[outcome])
    return {outcome: compare_pairs(mine, theirs) for outcome, (mine, theirs) in pairs.items()}


def build_rows(
    benchmark: Benchmark, one: ParsedRun, baseline: ParsedRun, tests: OutcomeTests, *, draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return the table rows of one run: one for every part, then the total."""
    counts = sum_counts(benchmark, one.read.values())
    values = compute_scores(benchmark, one.read.values())
    drawn = bootstrap_scores(benchmark, [counts], draws=draws, seed=seed)[0]
    differences = {} if one is baseline else _differences(benchmark, one, baseline, draws=draws, seed=seed)
    found = []
    for part, scores in values.items():
        rows = [r for r in one.rows if part in ("total", r.part)]
        line: dict[str, Any] = {
            "method": one.label,
            "settings": one.run.manifest["settings"],
            "part": part,
            "n": len(rows),
            "failed": sum(bool(r.error) for r in rows),
        }
        groups = [g for p in counts if part in ("total", p) for g in counts[p].values()]
        if "invalid" in groups[0]:
            line["unread"] = sum(g["invalid"] for g in groups)
        for name, value in scores.items():
            low, high = percentile_interval(drawn[part][name])
            line |= {name: value, f"{name}_low": low, f"{name}_high": high}
            line |= _difference(name, differences.get(part, {}).get(name))
        found.append(line)
    found = found if len(found) > 2 else found[-1:]  # a benchmark with one part: its row would repeat the total
    for name, (test, q) in tests.items():
        found[-1] |= {f"{name}_better": test.better, f"{name}_worse": test.worse, f"{name}_p": test.p, f"{name}_q": q}
    found[-1] |= _costs(one.run, baseline.run)
    return found


def _difference(name: str, found: tuple[float, float, float] | None) -> dict[str, float]:
    value, low, high = found or (math.nan,) * 3
    return {f"{name}_difference": value, f"{name}_difference_low": low, f"{name}_difference_high": high}


def _differences(
    benchmark: Benchmark, one: ParsedRun, baseline: ParsedRun, *, draws: int, seed: int
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return the difference of every score from the baseline's with its interval, over the samples that both runs answered."""
    both = [one.select(baseline.read), baseline.select(one.read)]
    if not both[0]:
        return {}
    mine, theirs = (compute_scores(benchmark, pairs) for pairs in both)
    drawn, against = bootstrap_scores(
        benchmark, [sum_counts(benchmark, pairs) for pairs in both], draws=draws, seed=seed
    )
    return {
        part: {
            n: (v - theirs[part][n], *percentile_interval(drawn[part][n] - against[part][n])) for n, v in scores.items()
        }
        for part, scores in mine.items()
    }


def _costs(run: Run, baseline: Run) -> dict[str, float]:
    costs = run.costs()
    samples, rate = sum(c.samples for c in costs), _rate(run)
    return {
        "seconds": sum(c.seconds for c in costs) / samples if samples else math.nan,
        "tokens": rate,
        "speed": rate / _rate(baseline) if _rate(baseline) else math.nan,
        "memory": float(max((c.memory for c in costs), default=0)),
    }


def _rate(run: Run) -> float:
    """Return the new tokens per second of a run."""
    costs = run.costs()
    seconds = sum(c.seconds for c in costs)
    return sum(c.tokens for c in costs) / seconds if seconds else math.nan
