"""`interp sweep`: the scores of a method under many values of its settings, or the effect of each head on the model's replies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import compare as asked
from interp.cli import inputs
from interp.registry import nearest

EXAMPLES = """[bold]Examples[/bold]

interp sweep --method vaf --over enhance=1.0,1.15,1.3 --bench pope --limit 50

interp sweep --method spear --over enhance=1.0,1.2 --over suppress=0.8,0.95 --bench steps --limit 20 --format csv --out sweep.csv

interp sweep --method vaf:enhance=1.5,mode=abs --over layers --bench pope --limit 50

interp sweep --over heads --bench chair --limit 8 --format csv --out heads.csv

interp sweep --over heads=3.1,5.0 --at all --bench chair --limit 8
"""
STEP = "step"


def sweep(
    bench: asked.Benchmarks,
    over: Annotated[
        list[str],
        typer.Option(
            metavar="SETTING=VALUE,...",
            help="A setting and its values; several are combined. layers: each layer alone. heads, or "
            "heads=LAYER.HEAD,... (without --method): the probability that each head adds to the model's own replies.",
        ),
    ],
    method: Annotated[
        str | None, typer.Option(metavar="NAME[:SETTING=VALUE,...]", help="The method; leave it out for heads.")
    ] = None,
    at: Annotated[
        str,
        typer.Option(help="Where heads are erased: at the step that emits a token (step), or at every position (all)."),
    ] = STEP,
    model: inputs.ModelName = "scenes",
    limit: asked.Limit = None,
    batch_size: asked.BatchSize = 16,
    seed: asked.Seed = 0,
    max_new_tokens: asked.Longest = None,
    sample: asked.Drawn = False,
    system_prompt: asked.System = None,
    folder: asked.Folder = Path("runs"),
    resume: asked.Resume = True,
    strict: asked.Strict = False,
    format: asked.Format = "text",
    out: asked.Out = None,
    parts: asked.Parts = False,
    ray: asked.Ray = None,
    gpus_per_replica: asked.Gpus = 0.0,
) -> None:
    """Run benchmarks under every value of a method's settings, or without each head, and print a table for each benchmark.

    Replies are saved, as by interp compare, so that the same command resumes.
    """
    asked.check_format(format)
    chosen, values = asked.benchmarks(bench, strict=strict), points(over, heads=method is None)
    made = None if method is None else inputs.method(method)
    if made is not None and at != STEP:
        raise typer.BadParameter("--at is for heads; leave it out with --method")
    if at not in (STEP, "all"):
        raise typer.BadParameter(f"--at is step or all, got {at!r}")
    loaded = inputs.load(model)
    from interp.runs.sweep import sweep_settings

    settings: dict[str, Any] = {
        **asked.questions(limit, batch_size, seed, max_new_tokens, sample=sample, system_prompt=system_prompt),
        "folder": folder,
        "resume": resume,
        "strict": strict,
        "ray": ray,
        "gpus_per_replica": gpus_per_replica,
    }
    if made is None:
        tables = [_heads(loaded, b, values, at=at, **settings) for b in chosen]
    else:
        tables = [sweep_settings(loaded, b, over=values, method=made, **settings) for b in chosen]
    asked.show(tables, format, out, parts=parts)


def _heads(model: Any, benchmark: Any, which: Any, *, at: Any, **settings: Any) -> Any:
    from interp.runs.strengths import rank_heads
    from interp.runs.sweep import sweep_replies

    swept = sweep_replies(model, benchmark, which, at=at, **settings)
    return rank_heads(
        swept, {"model": model.name, "benchmark": type(benchmark).__name__.lower(), "heads": f"erased at {at}"}
    )


def points(given: list[str], *, heads: bool) -> Any:
    """Return the values by setting of texts such as `enhance=1.0,1.15`, or "layers"; with `heads`, the named heads, or None for all.

    Raises:
        typer.BadParameter: a text has another form.
    """
    if heads:
        return _which(given)
    if given == ["layers"]:
        return "layers"
    import json

    found: dict[str, list[Any]] = {}
    for text in given:
        name, sign, values = text.partition("=")
        if not sign or not values:
            advice = "; heads go without --method" if name == "heads" else nearest(name, ["layers"])
            raise typer.BadParameter(f"--over is written SETTING=VALUE,VALUE,... or layers; got {text!r}{advice}")
        try:
            found[name.strip()] = json.loads(f"[{values}]")
        except json.JSONDecodeError:
            found[name.strip()] = [v.strip() for v in values.split(",")]
    return found


def _which(given: list[str]) -> Any:
    from interp.data.heads import Heads

    name, sign, named = given[0].partition("=")
    if name != "heads" or len(given) > 1:
        advice = nearest(name, ["heads"])
        raise typer.BadParameter(
            f"without --method, --over is heads or heads=LAYER.HEAD,...; got {', '.join(given)!r}{advice}; "
            "for settings and layers name the --method"
        )
    return Heads(tuple(map(inputs.head, named.split(",")))) if sign else None
