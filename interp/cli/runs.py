"""`interp runs`: list, show, compare, rescore and delete run directories, without the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.compare import Folder, Format, Out, Parts, check_format
from interp.cli.compare import show as show_tables
from interp.cli.screen import as_json, say, table
from interp.registry import nearest

if TYPE_CHECKING:
    from interp.runs.directory import Run

EXAMPLES = """[bold]Examples[/bold]

interp runs list

interp runs show scenes-pope-vaf --rows 3

interp runs compare scenes-pope-greedy scenes-pope-vaf --reading parser=vcd --format latex

interp runs rescore scenes-pope-vaf --reading parser=vcd

interp runs rm scenes-pope-vaf --yes
"""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List, show, compare, rescore and delete runs, without the model.",
)

Name = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the beginning of its name.")]
Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories, or beginnings of their names.")]
Readings = Annotated[
    list[str] | None,
    typer.Option(
        "--reading",
        metavar="SETTING=VALUE",
        help="A setting that changes how replies are read, such as parser=vcd; may be repeated.",
    ),
]


@app.command("list", epilog=EXAMPLES)
def list_(folder: Folder = Path("runs"), json: inputs.AsJson = False) -> None:
    """List the runs in a folder."""
    from interp.runs.directory import list_runs

    rows = [
        {
            "run": one.name,
            "method": one.method,
            "settings": one.manifest["settings"],
            "samples": f"{len(one.rows())}/{one.samples}",
            "started": one.manifest["started"],
        }
        for one in list_runs(folder)
    ]
    if json:
        as_json(rows)
    elif rows:
        table(list(rows[0]), [list(r.values()) for r in rows])
    else:
        say(f"no runs in {folder}; interp compare creates them")


@app.command(epilog=EXAMPLES)
def show(
    run: Name,
    rows: Annotated[int, typer.Option(min=0, help="Print this many samples with their replies.")] = 0,
    folder: Folder = Path("runs"),
    json: inputs.AsJson = False,
) -> None:
    """Print the identity of a run, its scores, and some of its replies."""
    one = find_run(run, folder)
    kept = one.rows()
    if json:
        as_json({"manifest": dict(one.manifest), "scores": one.scores(), "rows": [vars(r) for r in kept[:rows]]})
        return
    failed = [r for r in kept if r.error]
    state = "complete" if len(kept) == one.samples else "not finished"
    say(f"{one.path}\n{len(kept)} of {one.samples} samples, {state}; {len(failed)} failed")
    known = {**one.manifest["identity"], **one.manifest}
    table(("what", "value"), [(n, _plain(v)) for n, v in known.items() if n != "identity"])
    for reading, scores in one.scores().items():
        lines = [
            (part, n, f"{v:.4f}" if v is not None else "–")
            for part, s in scores["scores"].items()
            for n, v in s.items()
        ]
        table(("part", "score", "value"), lines, title=reading or "scores")
    for row in failed[:3]:
        say(f"failed: {row.id}: {row.error}")
    for row in kept[:rows]:
        say(f"\n{row.id} [{row.image}] {row.question}\n  {row.reply or row.error}")


@app.command(epilog=EXAMPLES)
def compare(
    runs: Names,
    reading: Readings = None,
    folder: Folder = Path("runs"),
    format: Format = "text",
    out: Out = None,
    parts: Parts = False,
) -> None:
    """Print the comparison table of several runs; the first run is the baseline."""
    from interp.runs.comparison import compare as tabled

    check_format(format)
    opened = [find_run(name, folder) for name in runs]
    show_tables([tabled(opened, reading=readings(reading))], format, out, parts=parts)


@app.command(epilog=EXAMPLES)
def rescore(run: Name, reading: Readings = None, folder: Folder = Path("runs"), json: inputs.AsJson = False) -> None:
    """Rescore the replies of a run with other settings, and print the scores."""
    from interp.runs.comparison import rescore as scored

    scores = scored(find_run(run, folder), **readings(reading))
    if json:
        as_json(scores)
        return
    table(("part", "score", "value"), [(p, n, f"{v:.4f}") for p, s in scores.items() for n, v in s.items()])


@app.command(epilog=EXAMPLES)
def rm(
    runs: Names,
    folder: Folder = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete runs: the files that a run writes, and no other file in their directories."""
    from interp.runs.directory import MANIFEST_FILE, remove_run

    paths = [Path(n) if (Path(n) / MANIFEST_FILE).is_file() else find_run(n, folder).path for n in runs]
    for path in paths:
        say(str(path))
    if not yes:
        typer.confirm(f"delete {len(paths)} run{'s' if len(paths) > 1 else ''}?", abort=True, err=True)
    for path in paths:
        remove_run(path)


def find_run(name: str, folder: Path) -> "Run":
    """Return the run of a directory, or the only run in a folder whose name begins with a text.

    Raises:
        ValueError: no run matches, or several do.
    """
    from interp.runs.directory import MANIFEST_FILE, Run, list_runs

    if (Path(name) / MANIFEST_FILE).is_file():
        return Run.open(name)
    there = list_runs(folder)
    meant = [r for r in there if r.name == name] or [r for r in there if r.name.startswith(name)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(f"{name!r} matches several runs: {', '.join(r.name for r in meant)}; give more of the name")
    names = [r.name for r in there]
    # Users type the beginning of a name: compared with whole names, which end in a digest, it would never be near.
    advice = nearest(name, [n[: len(name)] for n in names])
    raise ValueError(f"no run {name!r} in {folder}{advice}; runs: {', '.join(names) or 'none'}")


def readings(given: list[str] | None) -> dict[str, Any]:
    """Return settings from texts NAME=VALUE.

    Raises:
        ValueError: a text has another form.
    """
    from interp.registry import parse

    return parse(f"reading:{','.join(given or [])}")[1]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{n}={_plain(v)}" for n, v in value.items() if v is not None)
    return str(value)
