"""`interp demo`: a report of the embedded model, measured now."""

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
    out: Annotated[Path, typer.Option(help="Folder for index.html, reply.html, summary.json and the pictures.")] = Path(
        "report"
    ),
    n: Annotated[int, typer.Option(min=1, help="Held-out scenes to ask about.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes.")] = 0,
    json: inputs.AsJson = False,
) -> None:
    """Look into the embedded model: what it can do, what it attends to, what breaks without its resting token."""
    started = time.monotonic()
    model = inputs.load("scenes")
    from interp.report.study import study, units
    from interp.report.summary import tables
    from interp.report.write import write

    with progress(units(n), "done") as tell:
        found = study(model, n, seed, tell)
    command = f"interp demo --out {out} --n {n} --seed {seed}"
    facts = write(found, out, command=command, seconds=time.monotonic() - started)
    if json:
        as_json(facts)
        return
    for made in tables(found).values():
        table(made.heads, made.rows, title=made.title)
    for outcome in found.outcomes[1:]:
        say(f"{outcome.treatment.name}: {outcome.treatment.explanation} {outcome.note}".strip())
    say(f"\n{out / 'index.html'} (made in {time.monotonic() - started:.0f} s)")
