"""`interp measure`: analyses of one conversation, all from one pass, as tables, files and plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting
from interp.registry import concrete_names

if TYPE_CHECKING:
    from interp.data.result import Result

PACKAGE = Path(__file__).parents[1]
EXAMPLES = f"""[bold]Analyses[/bold]

{", ".join(concrete_names(PACKAGE / "analysis", "Analysis"))}

[bold]Examples[/bold]

interp measure scene:test/3 "Describe the image in detail." sinks budget --generate --out measured

interp measure photo.jpg "Is there a dog?" budget --model llava-hf/llava-1.5-7b-hf --response "Yes, there is."

interp measure --list
"""
MOST_ROWS = 24
"""Rows of a result that are printed."""


def measure(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An image file, scene:SPLIT/N, or none for text alone.")
    ] = "",
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question to the model.")] = "",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ANALYSIS...",
            help="Analyses, listed below and described by --list; settings as in sinks:epsilon=0.2.",
        ),
    ] = None,
    model: inputs.ModelName = "scenes",
    response: inputs.Response = None,
    generate: inputs.Generate = False,
    max_new_tokens: inputs.Tokens = 128,
    target: Annotated[
        int | None,
        typer.Option(
            help="Target of the gradients, for analyses that need them: a token of the reply, counted from 0."
        ),
    ] = None,
    mark_sinks: Annotated[
        bool,
        typer.Option("--mark-sinks", help="Find and mark the attention sinks first, for analyses that select them."),
    ] = False,
    interventions: inputs.InterventionFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (safetensors) and their plots (PNG).")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Describe the analyses and exit.")] = False,
    json: inputs.AsJson = False,
) -> None:
    """Run analyses of one conversation; all of them share one pass."""
    import interp

    if listed:
        _list(json)
        return
    if not image or not question or not names:
        raise typer.BadParameter(
            "give IMAGE, QUESTION and at least one ANALYSIS; interp measure --list describes the analyses"
        )
    chosen = inputs.analyses(names)
    graded = [name for name, analysis in chosen.items() if analysis.grad and analysis.gradient == "full"]
    if graded and target is None:
        raise typer.BadParameter(
            f"{', '.join(graded)} needs gradients: give a token of the reply with --target N, counted from 0"
        )
    edits = inputs.interventions(interventions)
    picture = inputs.image(image)
    loaded = inputs.load(model)
    prompt = inputs.conversation(loaded, picture, question, reply=response, generated=generate, longest=max_new_tokens)
    if mark_sinks:
        prompt = prompt.marked(sink=inputs.sinks(loaded, prompt))
    with waiting("running the pass"):
        found = interp.measure(loaded, prompt, *chosen.values(), interventions=edits, target=target)
    results = dict(zip(chosen, found if isinstance(found, tuple) else (found,), strict=True))
    files = _written(results, out) if out is not None else {}
    if json:
        as_json({name: {"rows": _rows(result), "files": files.get(name, [])} for name, result in results.items()})
        return
    for name, result in results.items():
        _print(name, result)
    for paths in files.values():
        for path in paths:
            say(path)


def _list(as_data: bool) -> None:
    from interp.arguments import analyses as analysis_classes

    rows = [(name, (kind.__doc__ or "").strip().split("\n")[0]) for name, kind in analysis_classes().items()]
    if as_data:
        as_json(dict(rows))
        return
    table(("analysis", "what it returns"), rows)


def _written(results: "dict[str, Result]", out: Path) -> dict[str, list[str]]:
    from interp.plot.files import save_pictures

    files = {}
    for name, result in results.items():
        saved = result.save(out / f"{name}.safetensors")
        files[name] = [str(saved), *(str(path) for path in save_pictures(result, out, name))]
    return files


def _rows(result: "Result") -> list[dict[str, Any]]:
    """Return a result's own rows, else the means of its summary over all axes but the first and the labelled ones."""
    own = getattr(result, "rows", None)
    if callable(own):
        return list(own())
    name = result.summary_field()
    axes = [axis for axis in result.axes()[name] if axis in ("layer", "depth", "segment", "candidate")] or list(
        result.axes()[name][:1]
    )
    frame = result.frame()
    if not axes:
        return [{name: float(frame.value.iloc[0])}]
    means = frame.groupby(axes, sort=False).value.mean()
    wide = means.unstack() if len(axes) > 1 else means.rename(name).to_frame()
    return [{str(k): v for k, v in row.items()} for row in wide.reset_index().to_dict("records")]


def _print(name: str, result: "Result") -> None:
    rows = _rows(result)
    if not rows:
        say(f"{name}: the result is empty")
        return
    heads = list(rows[0])
    table([str(h) for h in heads], [[_cell(row[h]) for h in heads] for row in rows[:MOST_ROWS]], title=name)
    if len(rows) > MOST_ROWS:
        say(f"... and {len(rows) - MOST_ROWS} more rows; --out DIR or --json gives all of them")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
