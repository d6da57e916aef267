"""`interp models`: the model families, and the conformance checks of their taps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, progress, say, table
from interp.registry import nearest

if TYPE_CHECKING:
    from interp.checks.base import Check

EXAMPLES = """[bold]Examples[/bold]

interp models

interp models --check llava qwen2_vl

interp models --check --markdown docs/models.md
"""
PRECISIONS = ("float32", "bfloat16")


def models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_TYPE]...", help="Families to list; all by default.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Run every conformance check on a tiny random model of each, in float32 and bfloat16."
        ),
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table to this Markdown file.")] = None,
    json: inputs.AsJson = False,
) -> None:
    """List the model families, and check them with --check; the exit code is 1 when a check fails."""
    chosen = _chosen(names)
    if not check:
        heads, rows = _families(chosen)
        _show(heads, rows, markdown, json)
        return
    done = _checked(chosen)
    first = next(iter(done.values()))
    heads = ("family", "precision", *(c.name for c in first))
    rows = [
        (kind, precision, *("✓" if c.passed else "✗" for c in checks)) for (kind, precision), checks in done.items()
    ]
    _show(heads, rows, None, json)
    if markdown is not None:
        from interp.data.storage import write_text
        from interp.testing.models import conformance_page

        write_text(markdown, conformance_page(done))
        if not json:
            say(f"written to {markdown}")
    failed = [(kind, precision, c) for (kind, precision), checks in done.items() for c in checks if not c.passed]
    for kind, precision, c in failed:
        typer.echo(f"{kind} {precision}, {c.name}: {c.detail.splitlines()[0] if c.detail else 'failed'}", err=True)
    if failed:
        raise typer.Exit(1)


def _chosen(names: list[str] | None) -> list[str]:
    from interp.families.base import family_names

    everything = family_names()
    for name in names or []:
        if name not in everything:
            raise typer.BadParameter(f"no family {name!r}{nearest(name, everything)}; known: {', '.join(everything)}")
    return list(names or everything)


def _families(names: list[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    import importlib

    from interp.families.base import family

    rows: list[tuple[str, ...]] = []
    for name in names:
        record = family(name)
        title = (importlib.import_module(f"interp.families.{name}").__doc__ or "").strip().split("\n")[0]
        takes = "image, text" if record.image_token is not None else "text"
        parts = ", ".join(
            p
            for p, there in (("decoder", True), ("vision", record.vision), ("qformer, cross", record.qformer))
            if there
        )
        rows.append((name, takes, parts, title))
    return ("family", "takes", "attention of", "what it is"), rows


def _checked(names: list[str]) -> "dict[tuple[str, str], list[Check]]":
    import transformers

    transformers.utils.logging.set_verbosity_error()
    import torch

    from interp.testing.models import check_family

    done = {}
    with progress(len(names) * len(PRECISIONS), "families checked") as tell:
        for name in names:
            for precision in PRECISIONS:
                tell(f"{name} {precision}")
                done[name, precision] = check_family(name, getattr(torch, precision))
    return done


def _show(heads: tuple[str, ...], rows: list[tuple[str, ...]], markdown: Path | None, json: bool) -> None:
    if markdown is not None:
        from interp.data.storage import write_text

        lines = [heads, tuple("---" for _ in heads), *rows]
        write_text(markdown, "".join(f"| {' | '.join(line)} |\n" for line in lines))
    if json:
        as_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    table(heads, rows)
    if markdown is not None:
        say(f"written to {markdown}")
