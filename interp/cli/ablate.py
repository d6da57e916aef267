"""`interp ablate`: replies with and without attention sinks or heads."""

from typing import Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting

EXAMPLES = """[bold]Examples[/bold]

interp ablate sinks scene:test/3 "Describe the image in detail." --how mask

interp ablate sinks scene:test/3 "Is there a chair in the image?" --how zero --how mean --json

interp ablate heads scene:test/3 "Describe the image in detail." 3.1 5.0
"""

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Ablate attention sinks or heads, and compare the replies."
)


@app.command(epilog=EXAMPLES)
def sinks(
    image: inputs.ImageName,
    question: inputs.Text,
    how: Annotated[
        list[str] | None,
        typer.Option(
            help="mask: no token attends to the sinks; zero: their values are zero; mean: their values are the mean. All three by default."
        ),
    ] = None,
    model: inputs.ModelName = "scenes",
    max_new_tokens: inputs.Tokens = 128,
    json: inputs.AsJson = False,
) -> None:
    """Ablate the attention sinks of the prompt, and print the reply with and without the ablation."""
    from interp.experiments.sinks import HOW, sink_ablation

    interventions = {h: (sink_ablation(h),) for h in how or HOW}
    picture = inputs.image(image)
    loaded = inputs.load(model)
    prompt = loaded.prepare(picture, question)
    prompt = prompt.marked(sink=inputs.sinks(loaded, prompt))
    where = ", ".join(f"{prompt.tokens[i]!r} at {i}" for i in prompt.layout.marks["sink"])
    _compare(loaded, prompt, interventions, max_new_tokens, json, f"sinks: {where}")


@app.command(epilog=EXAMPLES)
def heads(
    image: inputs.ImageName,
    question: inputs.Text,
    which: Annotated[list[str], typer.Argument(metavar="LAYER.HEAD...", help="Heads, such as 3.1.")],
    mode: Annotated[str, typer.Option(help="zero, mean or resample.")] = "zero",
    at: Annotated[
        str,
        typer.Option(
            help="Rows at which the heads are ablated: all, response, last, or step (each step with its own ablation)."
        ),
    ] = "all",
    model: inputs.ModelName = "scenes",
    max_new_tokens: inputs.Tokens = 128,
    json: inputs.AsJson = False,
) -> None:
    """Ablate attention heads, and print the reply with and without the ablation."""
    from interp.data.heads import Heads
    from interp.interventions.heads import AblateHeads

    chosen = Heads(tuple(inputs.head(text) for text in which))
    change = AblateHeads(chosen, mode, at)  # type: ignore[arg-type]  # AblateHeads checks it
    picture = inputs.image(image)
    loaded = inputs.load(model)
    prompt = loaded.prepare(picture, question)
    _compare(loaded, prompt, {mode: (change,)}, max_new_tokens, json, f"heads: {', '.join(which)}")


def _compare(
    model: Any, prompt: Any, interventions: dict[str, tuple[Any, ...]], longest: int, plain: bool, title: str
) -> None:
    import interp

    rows = []
    for name, edits in {"baseline": (), **interventions}.items():
        with waiting(f"generating: {name}"):
            reply = interp.generate(model, prompt, *edits, max_new_tokens=longest)
        rows.append({"how": name, "reply": reply.text, "tokens": len(reply.ids), "ended": reply.stop})
    if plain:
        as_json({"what": title, "replies": rows})
        return
    say(title)
    table(list(rows[0]), [[str(v) for v in row.values()] for row in rows])
