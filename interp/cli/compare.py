"""`interp compare`: methods against the model as it is, on benchmarks, with intervals, tests and costs."""

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
        help="Methods, parted by commas or given one by one; A+B is both at once. greedy, the model as it is, is always asked.",
    ),
]
Benchmarks = Annotated[
    list[str],
    typer.Option("--bench", metavar="NAME[:SETTING=VALUE,...],...", help="Benchmarks, written like methods."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Ask at most so many samples, of every part in turn.")]
BatchSize = Annotated[int, typer.Option(min=1, help="How many samples are asked together.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.")]
Longest = Annotated[int | None, typer.Option(min=1, help="The longest reply; the benchmark's own by default.")]
Drawn = Annotated[bool, typer.Option("--sample", help="Draw replies instead of taking the likeliest tokens.")]
System = Annotated[str | None, typer.Option(help="An instruction before every question.")]
Resume = Annotated[bool, typer.Option(help="Go on where a run stopped; without it, ask everything again.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first sample or line of data that cannot be used.")]
Folder = Annotated[Path, typer.Option(help="Where run directories are.")]
Format = Annotated[str, typer.Option("--format", help="text, csv, markdown or latex.")]
Out = Annotated[Path | None, typer.Option(help="Write the tables to this file.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Share the samples out over a Ray cluster, by replicas of the model: the cluster this machine is a node of, or its address.",
    ),
]
Gpus = Annotated[
    float,
    typer.Option("--gpus-per-replica", min=0, help="How many GPUs each replica has, with --ray; 0: they run on CPUs."),
]
Parts = Annotated[bool, typer.Option("--parts", help="Show every part of a benchmark, not the whole alone.")]


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
            "--stability", help="Instead: how many answers flip with the batch size and with how attention is computed."
        ),
    ] = False,
    format: Format = "text",
    out: Out = None,
    parts: Parts = False,
    ray: Ray = None,
    gpus_per_replica: Gpus = 0.0,
) -> None:
    """Ask a model the questions of benchmarks, as it is and under methods, and print a table of each.

    Everything asked is kept: the same command goes on where it was stopped, and asks nothing twice.
    """
    check_format(format)
    chosen = benchmarks(bench, strict=strict)
    each = named_methods(methods or [])
    loaded = inputs.load(model)
    asked = questions(limit, batch_size, seed, max_new_tokens, sample=sample, system_prompt=system_prompt)
    settings: dict[str, Any] = {"folder": folder, **asked}
    if stability:
        if ray is not None:
            raise typer.BadParameter("--stability compares how this machine computes; leave --ray out")
        from interp.runs.stability import stability as check

        under: list[Method | None] = [None, *each]
        show([check(loaded, b, m, **settings) for b in chosen for m in under], format, out)
        return
    from interp.runs.run import run

    kept: dict[str, Any] = {"resume": resume, "strict": strict, "ray": ray, "gpus_per_replica": gpus_per_replica}
    show([run(loaded, b, each, **kept, **settings) for b in chosen], format, out, parts=parts)


def named_methods(texts: list[str]) -> "list[Method]":
    """Return the methods that are written, without greedy, which is asked in any case.

    Raises:
        ValueError: an unknown method or setting, with the nearest.
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
    """Return options as the settings of `run` that say what is asked."""
    return {
        "batch_size": batch_size,
        "limit": limit,
        "seed": seed,
        "system_prompt": system_prompt,
        **({"do_sample": True} if sample else {}),
        **({"max_new_tokens": longest} if longest else {}),
    }


def benchmarks(texts: list[str], *, strict: bool = False) -> "list[Benchmark]":
    """Return the benchmarks that are written.

    Raises:
        ValueError: an unknown benchmark or setting, with the nearest, or none.
    """
    from interp.bench.base import benchmarks as known
    from interp.bench.base import parse_benchmark
    from interp.registry import split_list

    made: list[Any] = [parse_benchmark(name) for text in texts for name in split_list(text)]
    if not made:
        raise ValueError(f"--bench names no benchmark; benchmarks: {', '.join(sorted(known()))}")
    return [replace(b, strict_files=True) if strict and "strict_files" in b.settings() else b for b in made]


def check_format(how: str) -> None:
    """Refuse a format that no table has, before anything runs.

    Raises:
        typer.BadParameter: it is none.
    """
    from interp.runs.table_formats import TABLE_FORMATS

    if how not in TABLE_FORMATS:
        raise typer.BadParameter(f"--format is one of {', '.join(TABLE_FORMATS)}, got {how!r}")


def show(tables: list[Any], how: str, path: Path | None, **settings: Any) -> None:
    """Print tables, or write them to a file; as CSV they are one table."""
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
