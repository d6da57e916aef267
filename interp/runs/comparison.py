"""`compare`: finished runs against a baseline; `rescore`: one read in another way. Neither needs the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.bench.base import Benchmark, build_benchmark, compute_scores
from interp.runs.answers import Answers, labels, lines, reading_name, tested
from interp.runs.directory import Run
from interp.runs.table import Table, columns_of

SAME = ("weights", "configuration", "processor", "benchmark", "data", "samples", "options", "system_prompt")
"""What two runs must share for their samples to be compared in pairs."""


def compare(
    runs: Sequence[Run | str | Path],
    *,
    benchmark: Benchmark | None = None,
    reading: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Table:
    """Return the table of finished runs, without the model: the first is the baseline.

    Args:
        runs: run directories.
        benchmark: reads and scores the replies; by default the one the runs were made with.
        reading: other settings of it that change only how replies are read, such as `{"parser": "vcd"}`.
        names: what the table calls them; the names of their methods by default.
        draws: how many bootstrap draws make an interval.
        seed: of the draws.

    Raises:
        ValueError: no run, an unfinished one, runs that cannot be compared, a setting that does more than reading, or not one
            reply to read.
    """
    opened = [r if isinstance(r, Run) else Run.open(r) for r in runs]
    _refuse(opened)
    reader = reading_as(opened[0], benchmark, reading or {})
    answers = [Answers.of(r, reader, label) for r, label in zip(opened, names or labels(opened), strict=True)]
    for one in answers:
        one.run.keep_scores(reading_name(reader), one.saved(reader))
    tests = tested(reader, answers)
    rows = [row for one in answers for row in lines(reader, one, answers[0], tests[one.label], draws=draws, seed=seed)]
    kinds = {name: test.kind for found in tests.values() for name, (test, _) in found.items()}
    shown = tuple(h for h in reader.headline if h in rows[0])
    return Table(_about(opened[0], reader), columns_of(rows), shown, kinds, {a.label: str(a.run.path) for a in answers})


def rescore(
    run: Run | str | Path, *, benchmark: Benchmark | None = None, **reading: Any
) -> dict[str, dict[str, float]]:
    """Return the scores of a finished run under another reading, without the model: part → score, `total` for the whole.

    They are kept in its `scores.json` beside the others.

    Args:
        run: the run or its directory.
        benchmark: reads the replies; by default the one the run was made with.
        reading: settings that change only how replies are read: `rescore(run, parser="vcd")`.

    Raises:
        ValueError: an unfinished run, a setting that does more than reading, or not one reply to read.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    _refuse([opened])
    reader = reading_as(opened, benchmark, reading)
    answers = Answers.of(opened, reader, opened.method)
    opened.keep_scores(reading_name(reader), answers.saved(reader))
    return compute_scores(reader, answers.read.values())


def reading_as(run: Run, benchmark: Benchmark | None, reading: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark that reads a run's replies.

    Raises:
        ValueError: a benchmark that is not known by name any more, or a setting that does more than reading.
    """
    if benchmark is None:
        made = run.manifest["benchmark"]
        try:
            benchmark = build_benchmark(made["name"], **made["settings"])
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}. Give the benchmark itself: compare(runs, benchmark=...)") from error
    for name in reading:
        if name not in benchmark.reading:
            there = ", ".join(benchmark.reading) or "none"
            raise ValueError(
                f"{name!r} changes more than how {run.manifest['benchmark']['name']} reads a reply; settings that do not: {there}"
            )
    return replace(benchmark, **reading) if reading else benchmark  # type: ignore[type-var]


def _refuse(runs: Sequence[Run]) -> None:
    if not runs:
        raise ValueError("there is no run to compare")
    first = runs[0].manifest["identity"]
    for one in runs:
        count = len(one.rows())
        if count != one.samples:
            raise ValueError(
                f"{one.name} is not finished: {count} of {one.samples} samples; the call that began it goes on"
            )
        other = [n for n in SAME if one.manifest["identity"][n] != first[n]]
        if other:
            raise ValueError(
                f"{one.name} cannot be compared with {runs[0].name} in pairs: they differ in {', '.join(other)}; "
                "compare runs of one model, benchmark and data"
            )


def _about(run: Run, benchmark: Benchmark) -> dict[str, Any]:
    model = run.manifest["model"]
    return {
        "model": model["name"],
        "revision": model["revision"] or run.manifest["identity"]["weights"][:12],
        "benchmark": run.manifest["benchmark"]["name"],
        "reading": reading_name(benchmark),
        "samples": run.samples,
    }
