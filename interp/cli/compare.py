"""`interp compare`: methods against the baseline on benchmarks, with intervals, tests and costs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs, screen

if TYPE_CHECKING:
    from interp.bench.base import Benchmark
    from interp.interventions.method import Method

EXAMPLES = """[bold]Examples[/bold]

interp compare --methods greedy,vaf,spear,clva --bench pope,steps --limit 50

interp compare --method vaf:enhance=1.3,mode=abs --method spear+locore --bench pope:parser=vcd --format markdown --out table.md

interp compare --methods spear --bench pope --limit 50 --stability

interp compare --methods vaf,spear --bench pope --ray auto
"""

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        "--method",
        metavar="NAME[:SETTING=VALUE,...],...",
        help="Methods, separated by commas or repeated; A+B applies both at once. The baseline, greedy, is always included.",
    ),
]
Benchmarks = Annotated[
    list[str],
    typer.Option("--bench", metavar="NAME[:SETTING=VALUE,...],...", help="Benchmarks, in the same form as methods."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of samples, taken from every part in turn.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of samples in a batch.")]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.")]
Longest = Annotated[
    int | None, typer.Option(min=1, help="Maximum length of a reply, in tokens; by default that of the benchmark.")
]
Drawn = Annotated[bool, typer.Option("--sample", help="Sample replies instead of decoding greedily.")]
System = Annotated[str | None, typer.Option(help="An instruction before every question.")]
Resume = Annotated[bool, typer.Option(help="Resume a run that stopped; --no-resume asks all samples again.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first sample or line of data with an error.")]
Folder = Annotated[Path, typer.Option(help="Folder of the run directories.")]
Format = Annotated[str, typer.Option("--format", help="text, csv, markdown or latex.")]
Out = Annotated[Path | None, typer.Option(help="Write the tables to this file.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Distribute the samples over replicas of the model on a Ray cluster: the one this machine belongs to, or an address.",
    ),
]
Gpus = Annotated[
    float,
    typer.Option("--gpus-per-replica", min=0, help="GPUs of each replica, with --ray; 0 runs on CPUs."),
]
Parts = Annotated[
    bool, typer.Option("--parts", help="Show the scores of every part of a benchmark, not only the total.")
]


def compare(
    bench: Benchmarks,
    methods: Methods = None,
    model: inputs.ModelName = "scenes",
    limit: Limit = None,
    batch_size: BatchSize = 16,
    seed: Seed = 0,
    max_new_tokens: Longest = None,
    sample: Drawn = False,
    system_prompt: System = None,
    folder: Folder = Path("runs"),
    resume: Resume = True,
    strict: Strict = False,
    stability: Annotated[
        bool,
        typer.Option(
            "--stability",
            help="Count the answers that flip with the batch size and with the attention implementation instead.",
        ),
    ] = False,
    format: Format = "text",
    out: Out = None,
    parts: Parts = False,
    ray: Ray = None,
    gpus_per_replica: Gpus = 0.0,
) -> None:
    """Run benchmarks on a model, as baseline and under methods, and print a table for each benchmark.

    Replies are saved: the same command resumes where it was stopped.
    """
    check_format(format)
    chosen = benchmarks(bench, strict=strict)
    each = named_methods(methods or [])
    loaded = inputs.load(model)
    asked = questions(limit, batch_size, seed, max_new_tokens, sample=sample, system_prompt=system_prompt)
    settings: dict[str, Any] = {"folder": folder, **asked}
    if stability:
        if ray is not None:
            raise typer.BadParameter("--stability compares computations on this machine; leave --ray out")
        from interp.runs.stability import stability as check

        under: list[Method | None] = [None, *each]
        show([check(loaded, b, m, **settings) for b in chosen for m in under], format, out)
        return
    from interp.runs.run import run

    kept: dict[str, Any] = {"resume": resume, "strict": strict, "ray": ray, "gpus_per_replica": gpus_per_replica}
    show([run(loaded, b, each, **kept, **settings) for b in chosen], format, out, parts=parts)


def named_methods(texts: list[str]) -> "list[Method]":
    """Return the named methods, without greedy, which is always included.

    Raises:
        ValueError: an unknown method or setting, with the nearest known one.
    """
    from interp.registry import split_list

    return [inputs.method(name) for text in texts for name in split_list(text) if name.lower() != "greedy"]


def questions(
    limit: int | None,
    batch_size: int,
    seed: int,
    longest: int | None,
    *,
    sample: bool,
    system_prompt: str | None,
) -> dict[str, Any]:
    """Return options as settings of `run`."""
    return {
        "batch_size": batch_size,
        "limit": limit,
        "seed": seed,
        "system_prompt": system_prompt,
        **({"do_sample": True} if sample else {}),
        **({"max_new_tokens": longest} if longest else {}),
    }


def benchmarks(texts: list[str], *, strict: bool = False) -> "list[Benchmark]":
    """Return the named benchmarks.

    Raises:
        ValueError: no benchmark, or an unknown benchmark or setting, with the nearest known one.
    """
    from interp.bench.base import benchmarks as known
    from interp.bench.base import parse_benchmark
    from interp.registry import split_list

    made: list[Any] = [parse_benchmark(name) for text in texts for name in split_list(text)]
    if not made:
        raise ValueError(f"--bench names no benchmark; benchmarks: {', '.join(sorted(known()))}")
    return [replace(b, strict_files=True) if strict and "strict_files" in b.settings() else b for b in made]


def check_format(how: str) -> None:
    """Refuse an unknown format before anything runs.

    Raises:
        typer.BadParameter: an unknown format.
    """
    from interp.runs.table_formats import TABLE_FORMATS

    if how not in TABLE_FORMATS:
        raise typer.BadParameter(f"--format is one of {', '.join(TABLE_FORMATS)}, got {how!r}")


def show(tables: list[Any], how: str, path: Path | None, **settings: Any) -> None:
    """Print tables, or write them to a file; CSV joins them into one table."""
    if how == "csv":
        import pandas as pd

        said = pd.concat([t.flat() for t in tables], ignore_index=True).to_csv(index=False)
    else:
        said = "\n".join(t.render(how, **settings) for t in tables)
    if path is None:
        screen.out().print(said, markup=False, emoji=False, end="")
        return
    from interp.data.storage import write_text

    write_text(path, said)
    screen.err().print(f"{path}", markup=False)
