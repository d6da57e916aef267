"""`interp measure`: analyses of one conversation, all from one pass: tables, files, pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting

if TYPE_CHECKING:
    from interp.data.result import Result

EXAMPLES = """[bold]Examples[/bold]

interp measure scene:test/3 "Describe the image in detail." sinks budget --generate --out measured

interp measure photo.jpg "Is there a dog?" budget --model llava-hf/llava-1.5-7b-hf --response "Yes, there is."

interp measure --list
"""
MOST_ROWS = 24


def measure(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A file, scene:SPLIT/N, or none for text alone.")] = "",
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What the model is asked.")] = "",
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ANALYSIS...", help="What to find out; --list names them.")
    ] = None,
    model: inputs.ModelName = "scenes",
    response: inputs.Response = None,
    generate: inputs.Generate = False,
    max_new_tokens: inputs.Tokens = 128,
    target: Annotated[
        int | None,
        typer.Option(help="What gradients are of, where an analysis needs them: a token of the reply, from 0."),
    ] = None,
    mark_sinks: Annotated[
        bool,
        typer.Option(
            "--mark-sinks", help="Find the attention sinks first and mark them, for analyses that need them marked."
        ),
    ] = False,
    interventions: inputs.Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (safetensors) and their pictures (PNG).")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the analyses and stop.")] = False,
    json: inputs.AsJson = False,
) -> None:
    """Find out what a model attends to in one conversation; several analyses share one pass."""
    import interp

    if listed:
        _list(json)
        return
    if not image or not question or not names:
        raise typer.BadParameter(
            "give IMAGE, QUESTION and at least one ANALYSIS; interp measure --list names the analyses"
        )
    chosen = inputs.analyses(names)
    graded = [name for name, analysis in chosen.items() if analysis.grad and analysis.gradient == "full"]
    if graded and target is None:
        raise typer.BadParameter(
            f"{', '.join(graded)} needs gradients: name a token of the reply with --target N, from 0"
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
    rows = [(name, (kind.__doc__ or "").strip().split("\n")[0]) for name, kind in inputs.known_analyses().items()]
    if as_data:
        as_json(dict(rows))
        return
    table(("analysis", "what it finds out"), rows)


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
        say(f"{name}: nothing was found")
        return
    heads = list(rows[0])
    table([str(h) for h in heads], [[_cell(row[h]) for h in heads] for row in rows[:MOST_ROWS]], title=name)
    if len(rows) > MOST_ROWS:
        say(f"... and {len(rows) - MOST_ROWS} more rows; --out DIR or --json has them all")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
