"""`interp report`: an HTML page about a reply, token by token."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting

if TYPE_CHECKING:
    from interp.report.reply_view import Variant

EXAMPLES = """[bold]Examples[/bold]

interp report scene:test/3 "Describe the image in detail."

interp report scene:counter_prior/0 "Describe the image in detail." --method spear --method vaf:enhance=1.3 --out spear.html

interp report scene:test/3 "What do you see?" --interventions interventions.json --interventions others.json

interp report photo.jpg "Is there a dog?" --model llava-hf/llava-1.5-7b-hf --response "Yes, there is."
"""


def report(
    image: inputs.ImageName,
    question: inputs.Text,
    model: inputs.ModelName = "scenes",
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:SETTING=VALUE,...]",
            help="A mitigation method to compare with the baseline; may be repeated, each is shown separately.",
        ),
    ] = None,
    interventions: Annotated[
        list[Path] | None,
        typer.Option(
            help="YAML or JSON file with a list of interventions to compare with the baseline; may be repeated, each is shown separately."
        ),
    ] = None,
    response: Annotated[str | None, typer.Option(help="A reply to show instead of the baseline's own.")] = None,
    max_new_tokens: inputs.Tokens = 128,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("reply.html"),
    json: inputs.AsJson = False,
) -> None:
    """Write an HTML page about a reply: what every token was predicted from, by layer and head, and under interventions."""
    variants = _variants(method or [], interventions or [])
    picture, scene = inputs.image(image), inputs.scene(image)
    loaded = inputs.load(model)
    from interp.report.collect import compare_replies
    from interp.report.write import write_comparison

    prompt = loaded.prepare(picture, question)
    with waiting("generating and analysing the replies"):
        found = compare_replies(
            loaded, prompt, variants, image=image, scene=scene, response=response, longest=max_new_tokens
        )
    write_comparison(
        found, out, command=f"interp report {image} {question!r}{_options(method, interventions, response)}"
    )
    rows = [(r.variant.name, r.reply.text, *_counts(named)) for r, named in zip(found.views, found.labels, strict=True)]
    heads = ("model", "reply", "there", "invented")
    if json:
        as_json({"file": str(out), "replies": [dict(zip(heads, row, strict=True)) for row in rows]})
        return
    table(heads, rows)
    for one in found.views:
        for note in one.notes:
            say(note)
    say(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


def _variants(methods: list[str], files: list[Path]) -> "list[Variant]":
    from interp.report.reply_view import Variant

    named = [Variant(text, (inputs.method(text),)) for text in methods]
    return named + [Variant(path.name, inputs.interventions(path)) for path in files]


def _options(methods: list[str] | None, files: list[Path] | None, response: str | None) -> str:
    """Return the options that decide the content of the page, as on the command line."""
    options = [*(f" --method {m}" for m in methods or ()), *(f" --interventions {path}" for path in files or ())]
    return "".join(options) + (f" --response {response!r}" if response is not None else "")


def _counts(named: tuple[str, ...]) -> tuple[int | str, int | str]:
    return ("unknown", "unknown") if "unknown" in named else (named.count("there"), named.count("invented"))
