"""`interp demo`: measure the embedded model, and write a report."""

import time
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, progress, say, table

EXAMPLES = """[bold]Examples[/bold]

interp demo

interp demo --out /tmp/report --n 20 --seed 1
"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for index.html, reply.html, summary.json and the plots.")] = Path(
        "report"
    ),
    n: Annotated[int, typer.Option(min=1, help="Number of held-out scenes.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    json: inputs.AsJson = False,
) -> None:
    """Report on the embedded model: its accuracy, its attention, and the effect of ablating its attention sink."""
    started = time.monotonic()
    model = inputs.load("scenes")
    from interp.report.collect import collect_study, count_steps
    from interp.report.study_tables import build_tables
    from interp.report.write import write_study

    with progress(count_steps(n), "done") as tell:
        found = collect_study(model, n, seed, tell)
    command = f"interp demo --out {out} --n {n} --seed {seed}"
    facts = write_study(found, out, command=command, seconds=time.monotonic() - started)
    if json:
        as_json(facts)
        return
    for made in build_tables(found).values():
        table(made.heads, made.rows, title=made.title)
    for outcome in found.outcomes[1:]:
        say(f"{outcome.variant.name}: {outcome.variant.explanation} {outcome.note}".strip())
    say(f"\n{out / 'index.html'} ({time.monotonic() - started:.0f} s)")
