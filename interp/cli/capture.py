"""`interp capture`: run one pass and save its arrays to a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting

EXAMPLES = """[bold]Examples[/bold]

interp capture scene:test/3 "What do you see?" --want pattern --want resid_post --out seen.safetensors

interp capture scene:test/3 "What do you see?" --generate --want pattern --grad pattern --target 0 --out seen.safetensors

interp capture photo.jpg "What do you see?" --model llava-hf/llava-1.5-7b-hf --want pattern --layers 8-15 --estimate

The file opens with interp.Capture.load("seen.safetensors").
"""


class Rows(StrEnum):
    """The query rows of scores and pattern to save."""

    EVERY = "every"
    EMITTING = "emitting"
    LAST = "last"


def capture(
    image: inputs.ImageName,
    question: inputs.Text,
    model: inputs.ModelName = "scenes",
    want: Annotated[
        list[str] | None,
        typer.Option(help="A site to save (pattern, resid_post, q, ...; pattern by default); may be repeated."),
    ] = None,
    grad: Annotated[
        list[str] | None, typer.Option(help="A site whose gradient to save; may be repeated; needs --target.")
    ] = None,
    target: Annotated[
        int | None, typer.Option(help="Target of the gradients: a token of the reply, counted from 0.")
    ] = None,
    response: inputs.Response = None,
    generate: inputs.Generate = False,
    max_new_tokens: inputs.Tokens = 128,
    layers: Annotated[str | None, typer.Option(help="Layers to save, such as 0-7 or 0,3,5-6; all by default.")] = None,
    queries: Annotated[Rows, typer.Option(help="Query rows of scores and pattern to save.")] = Rows.EVERY,
    interventions: inputs.InterventionFile = None,
    out: Annotated[Path | None, typer.Option(help="The safetensors file to write.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the memory it would take, without running.")
    ] = False,
    json: inputs.AsJson = False,
) -> None:
    """Run a model once and save attention patterns, residual streams, gradients and other sites to a file."""
    import interp

    if (out is None) is not estimate:
        raise typer.BadParameter("give either --out FILE or --estimate")
    chosen = inputs.layers(layers)
    edits = inputs.interventions(interventions)
    picture = inputs.image(image)
    loaded = inputs.load(model)
    prompt = inputs.conversation(loaded, picture, question, reply=response, generated=generate, longest=max_new_tokens)
    with waiting("running the pass"):
        seen: Any = interp.capture(
            loaded,
            prompt,
            want=want or ["pattern"],
            grad=grad or [],
            target=target,
            queries=getattr(interp, queries.name),
            layers=chosen,
            interventions=edits,
            estimate=estimate,
        )
    if out is None:
        as_json({"kept": seen.kept, "during": seen.during, "available": seen.available}) if json else say(str(seen))
        return
    seen.save(out)
    shapes = {name: list(array.shape) for name, array in seen.arrays.items()}
    if json:
        as_json({"file": str(out), "arrays": shapes, "tokens": list(seen.tokens), "target": seen.target})
        return
    table(("array", "axes", "shape"), [(n, _axes(n), " × ".join(map(str, s))) for n, s in shapes.items()])
    say(f"{len(seen.tokens)} tokens; written to {out}")


def _axes(name: str) -> str:
    from interp.data.prompt import CAPTURE_AXES

    return CAPTURE_AXES.get(name.removesuffix("_grad").split(".")[-1], "")
