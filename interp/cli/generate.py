"""`interp generate`: the reply of a model, as baseline or under interventions."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, say, table, waiting

if TYPE_CHECKING:
    from interp.data.prompt import Prompt, Reply
    from interp.interventions.base import Intervention
    from interp.models.model import Model

EXAMPLES = """[bold]Examples[/bold]

interp generate scene:test/3 "Describe the image in detail."

interp generate photo.jpg "Is there a dog?" --model llava-hf/llava-1.5-7b-hf

interp generate scene:test/3 "What do you see?" --method spear --method locore --audit

interp generate scene:test/3 "What do you see?" --method vaf:enhance=1.3,mode=abs

interp generate scene:test/3 "What do you see?" --interventions interventions.json --json
"""

MASKED = 1e20
"""A score that moved by more than this counts as masked."""


def generate(
    image: inputs.ImageName,
    question: inputs.Text,
    model: inputs.ModelName = "scenes",
    max_new_tokens: inputs.Tokens = 128,
    sample: Annotated[bool, typer.Option("--sample", help="Sample the reply instead of decoding greedily.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of --sample.")] = None,
    mask_sinks: Annotated[
        bool,
        typer.Option(
            "--mask-sinks", help="Find the attention sinks of the prompt, and mask them for the question and the reply."
        ),
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:SETTING=VALUE,...]", help="A mitigation method; may be repeated. interp methods lists them."
        ),
    ] = None,
    interventions: inputs.InterventionFile = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Print where each intervention acted, and how far it moved the values.")
    ] = False,
    json: inputs.AsJson = False,
) -> None:
    """Print the reply of a model to a question about an image, as baseline or under interventions."""
    import interp

    if seed is not None and not sample:
        raise typer.BadParameter("--seed is for --sample; greedy decoding always gives the same reply")
    edits: tuple[Any, ...] = (*inputs.interventions(interventions), *(inputs.method(m) for m in method or ()))
    picture = inputs.image(image)
    loaded = inputs.load(model)
    prompt = loaded.prepare(picture, question)
    if mask_sinks:
        edits = (*edits, _masked_sinks(loaded, prompt))
    with waiting("generating"):
        reply = interp.generate(loaded, prompt, *edits, max_new_tokens=max_new_tokens, seed=seed, do_sample=sample)
    if json:
        as_json(_plain(reply))
        return
    say(reply.text)
    if audit:
        _print_audit(reply)


def _masked_sinks(model: "Model", prompt: "Prompt") -> "Intervention":
    import interp
    from interp.interventions.attention import MaskAttention

    return MaskAttention(keys=inputs.sinks(model, prompt), queries=interp.Segment.USER | interp.Segment.RESPONSE)


def _rows(reply: "Reply") -> list[dict[str, Any]]:
    return [
        {
            "intervention": repr(fired.intervention),
            "calls": fired.calls,
            "layers": sorted(fired.layers),
            "largest": fired.largest,
            "mean": fired.mean,
            "row_sum": fired.row_sum,
        }
        for fired in reply.audit
    ]


def _plain(reply: "Reply") -> dict[str, Any]:
    return {
        "reply": reply.text,
        "tokens": list(reply.tokens),
        "ids": list(reply.ids),
        "logprobs": list(reply.logprobs),
        "stop": reply.stop,
        "audit": _rows(reply),
    }


def _print_audit(reply: "Reply") -> None:
    rows = [
        (
            r["intervention"],
            r["calls"],
            ", ".join(map(str, r["layers"])),
            _size(r["largest"]),
            _size(r["mean"]),
            _size(r["row_sum"]),
        )
        for r in _rows(reply)
    ]
    if not rows:
        say("no intervention was applied")
        return
    table(("intervention", "calls", "layers", "largest change", "mean change", "row sum error"), rows)


def _size(value: float) -> str:
    return "masked" if value > MASKED else f"{value:.3g}"
