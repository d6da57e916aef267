"""`interp sweep`: a method's scores under many values of its settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.compare import Benchmarks, Folder, Format, Gpus, Out, Parts, Ray, benchmarks, check_format, show

EXAMPLES = """[bold]Examples[/bold]

interp sweep --method vaf --over enhance=1.0,1.15,1.3 --bench pope --limit 50

interp sweep --method spear --over enhance=1.0,1.2 --over suppress=0.8,0.95 --bench steps --limit 20 --format csv --out sweep.csv

interp sweep --method vaf:enhance=1.5,mode=abs --over layers --bench pope --limit 50
"""


def sweep(
    bench: Benchmarks,
    method: Annotated[str, typer.Option(metavar="NAME[:SETTING=VALUE,...]", help="The method.")],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="SETTING=VALUE,...",
            help="A setting and its values; several make all combinations. layers alone: each layer by itself.",
        ),
    ],
    model: inputs.ModelName = "scenes",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask at most so many samples, of every part in turn.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="How many samples are asked together.")] = 16,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    folder: Folder = Path("runs"),
    format: Format = "text",
    out: Out = None,
    parts: Parts = False,
    ray: Ray = None,
    gpus_per_replica: Gpus = 0.0,
) -> None:
    """Ask the questions of benchmarks under every value of a method's settings, and print a table of each.

    Everything asked is kept, as `interp compare` keeps it.
    """
    check_format(format)
    chosen, made, values = benchmarks(bench), inputs.method(method), points(over)
    loaded = inputs.load(model)
    from interp.runs.sweep import sweep_settings

    settings: dict[str, Any] = {
        "limit": limit,
        "batch_size": batch_size,
        "seed": seed,
        "folder": folder,
        "ray": ray,
        "gpus_per_replica": gpus_per_replica,
    }
    show([sweep_settings(loaded, b, over=values, method=made, **settings) for b in chosen], format, out, parts=parts)


def points(given: list[str]) -> Any:
    """Return values by setting from texts such as `enhance=1.0,1.15`; `layers` as it is.

    Raises:
        typer.BadParameter: one that is written otherwise.
    """
    import json

    if given == ["layers"]:
        return "layers"
    found: dict[str, list[Any]] = {}
    for text in given:
        name, sign, values = text.partition("=")
        if not sign or not values:
            raise typer.BadParameter(f"--over is written SETTING=VALUE,VALUE,... or layers; got {text!r}")
        try:
            found[name.strip()] = json.loads(f"[{values}]")
        except json.JSONDecodeError:
            found[name.strip()] = [v.strip() for v in values.split(",")]
    return found
