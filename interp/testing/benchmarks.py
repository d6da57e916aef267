"""The check of benchmarks, for those who write one: `check_benchmark`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from interp.bench.base import Benchmark, Counts, sum_counts
from interp.checks.base import Check, run_checks


def check_benchmark(
    benchmark: Benchmark, replies: Sequence[str] = ("yes", "No.", "", "a dog and a cat")
) -> list[Check]:
    """Return the outcome of every check on a benchmark; one that fails carries the reason in `detail`.

    Checked is what a run relies on when it saves, resumes, parses again and compares: samples have unique ids and are the same
    each time; settings, truth and parsed replies survive JSON; images open; scores of many bootstrap draws equal those of each
    draw; outcomes have the same names for every sample; labelled mentions lie inside the reply.

    Args:
        benchmark: the benchmark, with few samples.
        replies: replies that are parsed for every sample.
    """
    return run_checks(BENCHMARK, benchmark, replies)


def _samples_stay(benchmark: Benchmark, replies: Sequence[str]) -> None:
    samples = benchmark.samples()
    ids = [s.id for s in samples]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if not samples or twice:
        raise AssertionError(
            f"a benchmark needs samples with unique ids: got {len(ids)} samples, repeated ids {twice[:3]}"
        )
    if list(benchmark.samples()) != list(samples):
        raise AssertionError("samples() gives different samples the second time")
    if any(not s.question or not s.part for s in samples):
        raise AssertionError("a sample lacks its question or its part")


def _plain_data(benchmark: Benchmark, replies: Sequence[str]) -> None:
    settings = benchmark.settings()
    _through_json(settings, "settings")
    unknown = set(benchmark.reading) - set(settings)
    if unknown:
        raise AssertionError(f"reading names unknown settings: {sorted(unknown)}")
    for sample in benchmark.samples():
        _through_json(dict(sample.truth), f"the truth of {sample.id}")
        for reply in replies:
            _through_json(dict(benchmark.read(reply, sample)), f"the reading of {reply!r} for {sample.id}")


def _through_json(value: Any, what: str) -> None:
    back = json.loads(json.dumps(value))
    if back != json.loads(json.dumps(back)) or set(back) != set(value):
        raise AssertionError(f"{what} is not the same after writing and reading JSON")


def _images_open(benchmark: Benchmark, replies: Sequence[str]) -> None:
    from interp.data.images import read_image

    for sample in benchmark.samples()[:3]:
        image = benchmark.image(sample)
        if image is not None:
            read_image(image)


def _scores_vectorise(benchmark: Benchmark, replies: Sequence[str]) -> None:
    """Scores of many bootstrap draws at once equal those of each draw, and are finite or NaN."""
    alone: list[Mapping[str, Counts]] = []
    for reply in replies:
        groups = sum_counts(benchmark, [(s, benchmark.read(reply, s)) for s in benchmark.samples()])
        names = {n for each in groups.values() for g in each.values() for n in g}
        if any(set(g) != names for each in groups.values() for g in each.values()):
            raise AssertionError(f"count gives the same names for every group, got {sorted(names)} in all")
        alone.append(
            {p: {n: np.asarray(float(sum(g[n] for g in e.values()))) for n in names} for p, e in groups.items()}
        )
    scored = [_every_score(benchmark, counts) for counts in alone]
    drawn = {p: {n: np.stack([c[p][n] for c in alone]) for n in alone[0][p]} for p in alone[0]}
    for (part, name), together in _every_score(benchmark, drawn).items():
        np.testing.assert_allclose(together, [one[part, name] for one in scored], err_msg=f"{name} of {part}")
        if np.isinf(together).any():
            raise AssertionError(f"{name} of {part} is infinite; return NaN if it is not defined, see ratio")
    shown = {name for _, name in scored[0]}
    if not set(benchmark.headline) <= shown or not benchmark.lower_is_better <= shown:
        raise AssertionError(f"headline and lower_is_better name unknown scores; scores are {sorted(shown)}")


def _every_score(benchmark: Benchmark, parts: Mapping[str, Counts]) -> dict[tuple[str, str], np.ndarray]:
    scores = {p: benchmark.scores(c) for p, c in parts.items()}
    return {(p, n): v for p, each in {**scores, "total": benchmark.total(scores)}.items() for n, v in each.items()}


def _outcomes_compare(benchmark: Benchmark, replies: Sequence[str]) -> None:
    """Every reply to every sample gives outcomes of the same names, each a truth value or a number."""
    seen = [benchmark.outcome(s, benchmark.read(r, s)) for s in benchmark.samples() for r in replies]
    kinds = {tuple((n, isinstance(v, bool)) for n, v in sorted(o.items())) for o in seen}
    if len(kinds) != 1:
        raise AssertionError(f"outcomes differ in name or kind from sample to sample: {sorted(kinds)[:2]}")


def _labels_inside(benchmark: Benchmark, replies: Sequence[str]) -> None:
    for sample in benchmark.samples():
        for reply in replies:
            for start, end, _ in benchmark.labels(sample, reply):
                if not 0 <= start < end <= len(reply):
                    raise AssertionError(f"a mention of {sample.id} from {start} to {end} is not inside {reply!r}")


BENCHMARK: dict[str, Callable[[Benchmark, Sequence[str]], None]] = {
    "samples": _samples_stay,
    "plain data": _plain_data,
    "images": _images_open,
    "scores": _scores_vectorise,
    "outcomes": _outcomes_compare,
    "labels": _labels_inside,
}
"""The checks of a benchmark, by name."""
