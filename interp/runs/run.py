"""`run`: one call from a model, a benchmark and methods to a comparison table.

`load_parts` builds what is given by name. The work itself is in `interp.runs.spec`, `interp.runs.execution` and
`interp.runs.comparison`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from interp.arguments import check_settings, expect_method, expect_model
from interp.bench.base import Benchmark, parse_benchmark
from interp.data.errors import check_type
from interp.interventions.method import Method
from interp.loading import load
from interp.models.model import Model
from interp.runs.comparison import compare
from interp.runs.execution import answer_here, execute
from interp.runs.identity import GREEDY
from interp.runs.shards import connect, device_kind
from interp.runs.spec import build_spec, refuse_unfit_run
from interp.runs.table import ComparisonTable


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
) -> ComparisonTable:
    """Ask a model the questions of a benchmark, as baseline and under methods, and return the table.

    All replies are kept in `folder`: a call that was killed resumes where it stopped, and a sample that was asked before with the same
    weights, data and settings is not asked again. The page on runs describes the files of a run directory.

    Args:
        model: a model, or its name.
        benchmark: a benchmark, or its name with settings: `pope`, `pope:parser=vcd`.
        methods: methods, or their names with settings: `vaf`, `vaf:enhance=1.3`, `spear+locore`. The baseline is always asked first.
        batch_size: how many samples are asked together.
        limit: ask at most this many samples: the first groups of every part in turn.
        seed: seed of all random draws, by `do_sample` or by a method.
        system_prompt: an instruction before every question, see `Model.prepare`.
        folder: the folder of the run directories.
        resume: keep existing rows; otherwise ask everything again.
        progress: whether to show a progress bar for each method.
        strict: stop at the first sample that cannot be asked; otherwise its row records the reason and the run continues.
        ray: distribute the samples over replicas of the model on a Ray cluster: `auto` for the cluster that this machine belongs to, or
            its HOST:PORT.
        gpus_per_replica: GPUs per replica; with 0, replicas run on CPUs, with one thread each.
        options: options of `generate`; `max_new_tokens` is the benchmark's `longest` by default.

    Raises:
        ValueError: an unknown name, a method that does not fit, a limit or batch size below 1, or a benchmark without samples.
        TypeError: a setting has no JSON form, such as a function.
        OSError: the disk is full, or no cluster answers; the same call resumes the run.
        ImportError: `ray` is given, but Ray is not installed.
    """
    check_settings(
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        system_prompt=system_prompt,
        folder=folder,
        resume=resume,
        progress=progress,
        strict=strict,
        ray=ray,
        gpus_per_replica=gpus_per_replica,
    )
    found = load_parts(model, benchmark, methods)
    spec = build_spec(
        found.model,
        found.benchmark,
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        system_prompt=system_prompt,
        options=options,
    )
    spec = replace(spec, device=device_kind(found.model, gpus_per_replica))
    # All methods are checked before the first is run: a misfit would otherwise surface hours later.
    for method in found.methods:
        refuse_unfit_run(spec, method)
    kept = {"resume": resume, "progress": progress, "strict": strict}
    with connect(found.model, ray, gpus_per_replica) as shards:
        answerer = answer_here if shards is None else shards.answer
        finished = [execute(spec, m, folder, answerer=answerer, **kept) for m in found.methods]
    return compare(finished, benchmark=found.benchmark)


@final
@dataclass(frozen=True, eq=False)
class RunParts:
    """Model, benchmark and methods of a run; the methods start with None, the baseline."""

    model: Model
    benchmark: Benchmark
    methods: tuple[Method | None, ...]


def load_parts(model: Model | str, benchmark: Benchmark | str, methods: Sequence[Method | str]) -> RunParts:
    """Return the parts of a run, built where they are given by name.

    Raises:
        ValueError: an unknown name or setting, with the nearest known one.
    """
    # Names of methods and benchmarks are checked before the model is loaded, which may take minutes.
    parsed = parse_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    check_type(parsed, Benchmark, "benchmark", "a benchmark or the name of one", "for example Pope() or 'pope'")
    several: Any = [methods] if isinstance(methods, str) or not isinstance(methods, Iterable) else methods
    every = dict.fromkeys([None, *map(_parse, several)])
    return RunParts(load(model) if isinstance(model, str) else expect_model(model), parsed, tuple(every))


def _parse(given: Method | str) -> Method | None:
    if isinstance(given, str) and given.strip().lower() == GREEDY:
        return None
    return expect_method(given, "methods")
