"""`run`: a model asked the questions of a benchmark, as it is and under methods."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, final

from interp.bench.base import Benchmark, Sample, parse_benchmark
from interp.interventions.method import Method
from interp.interventions.method import parse_method as spoken_method
from interp.loading import load
from interp.models.model import Model
from interp.runs.asking import Questioning, ask, here, refuse
from interp.runs.comparison import compare
from interp.runs.identity import GREEDY, samples_hash
from interp.runs.shards import connected, device
from interp.runs.table import Table


def run(  # noqa: PLR0913  # the one call that does it all
    model: Model | str,
    benchmark: Benchmark | str,
    methods: Sequence[Method | str] = (),
    *,
    batch_size: int = 16,
    limit: int | None = None,
    seed: int = 0,
    system_prompt: str | None = None,
    folder: str | Path = "runs",
    resume: bool = True,
    progress: bool = True,
    strict: bool = False,
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
    **options: Any,
) -> Table:
    """Ask a model the questions of a benchmark, as it is and under methods, and return the table.

    Everything that is asked is kept in `folder`: a call that was killed goes on where it stopped, and what was asked before with
    the same weights, data and settings is not asked again. See the page on runs for what a directory holds.

    Args:
        model: a model, or the name of one.
        benchmark: a benchmark, or one in words: `pope`, `pope:parser=vcd`.
        methods: methods, or such in words: `vaf`, `vaf:enhance=1.3`, `spear+locore`. The model as it is comes first in any case.
        batch_size: how many samples are asked together.
        limit: ask at most so many samples: the first groups of every part in turn.
        seed: of everything that is drawn, with `do_sample` or by a method.
        system_prompt: an instruction before every question, see `Model.prepare`.
        folder: where run directories are.
        resume: keep rows that are there; otherwise ask everything again.
        progress: whether to show a bar for each method.
        strict: stop at the first sample that cannot be asked; otherwise its row says why, and the run goes on.
        ray: share the samples out over a Ray cluster, by replicas of the model: `auto` for the one this machine is a node of, or the
            HOST:PORT of one that it is a node of.
        gpus_per_replica: how many GPUs each replica has; with 0 they run on CPUs, one thread each.
        options: those of `generate`; `max_new_tokens` is the benchmark's `longest` by default.

    Raises:
        ValueError: an unknown name, a method that does not fit, a limit or batch size below 1, or no sample.
        TypeError: a setting that cannot be written down, such as a function.
        OSError: the disk is full, or no cluster answers; the same call goes on.
        ImportError: Ray is asked for and not installed.
    """
    made = chosen(model, benchmark, methods)
    what = questioning(
        made.model,
        made.benchmark,
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        system_prompt=system_prompt,
        options=options,
    )
    what = replace(what, device=device(made.model, gpus_per_replica))
    for method in made.methods:
        refuse(what, method)
    kept = {"resume": resume, "progress": progress, "strict": strict}
    with connected(made.model, ray, gpus_per_replica) as shards:
        answers = here if shards is None else shards.answers
        finished = [ask(what, m, folder, answers=answers, **kept) for m in made.methods]
    return compare(finished, benchmark=made.benchmark)


@final
@dataclass(frozen=True, eq=False)
class Chosen:
    """What was named, made; the methods begin with None, the model as it is."""

    model: Model
    benchmark: Benchmark
    methods: tuple[Method | None, ...]


def chosen(model: Model | str, benchmark: Benchmark | str, methods: Sequence[Method | str]) -> Chosen:
    """Return what some names stand for; methods and benchmark are understood before the model is loaded.

    Raises:
        ValueError: an unknown name or setting, with the nearest.
    """
    asking = parse_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    each = dict.fromkeys([None, *map(_method, methods)])
    return Chosen(load(model) if isinstance(model, str) else model, asking, tuple(each))


def questioning(
    model: Model,
    benchmark: Benchmark,
    *,
    batch_size: int = 16,
    limit: int | None = None,
    seed: int = 0,
    system_prompt: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Questioning:
    """Return what a benchmark asks of a model.

    Raises:
        ValueError: a limit or batch size below 1, no sample, or samples of one name.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch_size and limit are at least 1, got {batch_size} and {limit}")
    every = benchmark.samples()
    samples = every if limit is None else limited(every, limit)
    if not samples:
        raise ValueError(f"{benchmark} has no sample")
    twice = [name for name, count in Counter(s.id for s in samples).items() if count > 1]
    if twice:
        raise ValueError(f"{benchmark} has several samples of one id: {', '.join(twice[:5])}; ids name a sample")
    wanted = {"max_new_tokens": benchmark.longest, **(options or {})}
    return Questioning(
        model, benchmark, samples, samples_hash(benchmark, samples), batch_size, seed, wanted, system_prompt
    )


def limited(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """Return at most so many samples, in their order: whole groups, the parts in turn, each from its first group on.

    Of a first group that is larger than the limit, its first samples.
    """
    parts: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        parts.setdefault(sample.part, {}).setdefault(sample.group or sample.id, []).append(sample)
    rounds = zip_longest(*(groups.values() for groups in parts.values()))
    kept: list[Sample] = []
    for group in (g for each in rounds for g in each if g is not None):
        if len(kept) + len(group) > limit:
            kept = kept or group[:limit]
            break
        kept += group
    ids = {s.id for s in kept}
    return [s for s in samples if s.id in ids]


def _method(given: Method | str) -> Method | None:
    if not isinstance(given, str):
        return given
    return None if given.strip().lower() == GREEDY else spoken_method(given)
