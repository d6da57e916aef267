"""Finished runs read again from disk, without the model.

`compare` returns the table of several runs against a baseline; `rescore` the scores of one run under other reading settings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.arguments import check_settings
from interp.bench.base import Benchmark, build_benchmark, compute_scores
from interp.data.errors import check_type
from interp.runs.directory import Run
from interp.runs.parsed_run import ParsedRun, build_rows, compare_outcomes, describe_reading, label_runs
from interp.runs.table import ComparisonTable, build_frame

_SHARED = ("weights", "configuration", "processor", "benchmark", "data", "samples", "options", "system_prompt")
"""Entries of the identity that two runs must share for their samples to be compared in pairs."""


def compare(
    runs: Sequence[Run | str | Path],
    *,
    benchmark: Benchmark | None = None,
    reading: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> ComparisonTable:
    """Return the table of finished runs, without the model; the first run is the baseline.

    Args:
        runs: run directories.
        benchmark: reads and scores the replies; by default the one that the runs were made with.
        reading: other values of its settings that change only how replies are read, such as `{"parser": "vcd"}`.
        names: the names of the runs in the table; by default those of their methods.
        draws: the number of bootstrap draws for an interval.
        seed: seed of the draws.

    Raises:
        ValueError: no run, an unfinished run, runs that cannot be compared, a setting that changes more than reading, or a run without
            any reply.
    """
    check_settings(draws=draws, seed=seed)
    single = isinstance(runs, str) or not isinstance(runs, Iterable)
    opened = [_open(r, "runs") for r in ([runs] if single else runs)]
    _refuse(opened)
    reader = reading_benchmark(opened[0], benchmark, reading or {})
    answers = [ParsedRun.parse(r, reader, label) for r, label in zip(opened, names or label_runs(opened), strict=True)]
    for one in answers:
        one.run.keep_scores(describe_reading(reader), one.to_json(reader))
    tests = compare_outcomes(reader, answers)
    rows = [
        row for one in answers for row in build_rows(reader, one, answers[0], tests[one.label], draws=draws, seed=seed)
    ]
    kinds = {name: test.kind for found in tests.values() for name, (test, _) in found.items()}
    shown = tuple(h for h in reader.headline if h in rows[0])
    return ComparisonTable(
        _about(opened[0], reader), build_frame(rows), shown, kinds, {a.label: str(a.run.path) for a in answers}
    )


def rescore(
    run: Run | str | Path, *, benchmark: Benchmark | None = None, **reading: Any
) -> dict[str, dict[str, float]]:
    """Return the scores of a finished run under other reading settings, without the model: part → score, `total` for the whole.

    They are saved in `scores.json` of the run, beside those of other settings.

    Args:
        run: the run or its directory.
        benchmark: reads the replies; by default the one that the run was made with.
        reading: settings that change only how replies are read: `rescore(run, parser="vcd")`.

    Raises:
        ValueError: an unfinished run, a setting that changes more than reading, or a run without any reply.
    """
    opened = _open(run, "run")
    _refuse([opened])
    reader = reading_benchmark(opened, benchmark, reading)
    answers = ParsedRun.parse(opened, reader, opened.method)
    opened.keep_scores(describe_reading(reader), answers.to_json(reader))
    return compute_scores(reader, answers.read.values())


def _open(given: Any, argument: str) -> Run:
    run = check_type(given, Run | str | Path, argument, "a Run or its directory", "interp runs list shows them")
    return run if isinstance(run, Run) else Run.open(run)


def reading_benchmark(run: Run, benchmark: Benchmark | None, reading: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark that reads the replies of a run.

    Raises:
        ValueError: no benchmark has the recorded name, or a setting changes more than reading.
    """
    check_type(benchmark, Benchmark | None, "benchmark", "a Benchmark or None")
    check_type(reading, Mapping, "reading", "settings by name", "for example {'parser': 'vcd'}")
    if benchmark is None:
        made = run.manifest["benchmark"]
        try:
            benchmark = build_benchmark(made["name"], **made["settings"])
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}. Pass the benchmark itself: compare(runs, benchmark=...)") from error
    for name in reading:
        if name not in benchmark.reading:
            allowed = ", ".join(benchmark.reading) or "none"
            raise ValueError(
                f"{name!r} changes more than how {run.manifest['benchmark']['name']} reads a reply; "
                f"settings that change only that: {allowed}"
            )
    return replace(benchmark, **reading) if reading else benchmark  # type: ignore[type-var]


def _refuse(runs: Sequence[Run]) -> None:
    if not runs:
        raise ValueError("no run to compare; pass at least one run directory")
    first = runs[0].manifest["identity"]
    for one in runs:
        count = len(one.rows())
        if count != one.samples:
            raise ValueError(
                f"{one.name} is not finished: {count} of {one.samples} samples; repeat the call that started it to resume it"
            )
        other = [n for n in _SHARED if one.manifest["identity"][n] != first[n]]
        if other:
            raise ValueError(
                f"{one.name} and {runs[0].name} cannot be compared in pairs: they differ in {', '.join(other)}; "
                "compare runs of one model, benchmark and data"
            )


def _about(run: Run, benchmark: Benchmark) -> dict[str, Any]:
    model = run.manifest["model"]
    return {
        "model": model["name"],
        "revision": model["revision"] or run.manifest["identity"]["weights"][:12],
        "benchmark": run.manifest["benchmark"]["name"],
        "reading": describe_reading(benchmark),
        "samples": run.samples,
    }
