"""`interp methods`: what each published method changes, what it costs, and which models it fits."""

import copy
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, progress, table

if TYPE_CHECKING:
    from interp.interventions.method import Method
    from interp.models.model import Model

EXAMPLES = """[bold]Examples[/bold]

interp methods

interp methods vcd damro --model scenes

interp methods --json
"""
DEPTH = 12
"""Layers of the models that stand for their kind."""
STANDING_IN = {"heads": ((0, 0),)}
"""Settings that have no default, for a look at what a method does."""


def methods(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[METHOD]...", help="Only these; all by default.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Say which fit this model; by default which kinds of models each fits."),
    ] = None,
    json: inputs.AsJson = False,
) -> None:
    """List the methods: what each edits, how many passes a token takes, and which models it fits."""
    chosen = _chosen(names)
    asked = _tiny() if model is None else {model: inputs.load(model)}
    rows = [_facts(name, kind, asked) for name, kind in chosen.items()]
    if json:
        as_json(rows)
        return
    heads = ("method", "edits", "passes", "fits", "what it is")
    table(heads, [tuple(_fits(row["fits"], row["not"]) if h == "fits" else row[h] for h in heads) for row in rows])


def _chosen(names: list[str] | None) -> "dict[str, type[Method]]":
    from interp.interventions.method import methods as method_classes

    everything = method_classes()
    for name in names or []:
        if name not in everything:
            raise typer.BadParameter(
                f"no method {name!r}{inputs.nearest(name, list(everything))}; there are {', '.join(everything)}"
            )
    return {name: everything[name] for name in names or sorted(everything)}


def _tiny() -> "dict[str, Model]":
    """Return a random model of every family that has one: tiny, but deep enough that none is refused for its depth."""
    import transformers

    import interp
    from interp.families.base import family, family_names

    transformers.utils.logging.set_verbosity_error()
    made = {}
    with progress(len(family_names()), "kinds of models") as tell:
        for name in family_names():
            tell(name)
            if (tiny := family(name).tiny) is not None:
                module, processor = tiny()
                made[name] = interp.load(type(module)(_deep(module.config)).eval(), processor=processor)
    return made


def _deep(config: Any) -> Any:
    """Return a configuration with more layers in its decoder and its Q-Former."""
    deep = copy.deepcopy(config)
    for part in filter(None, (deep.get_text_config(decoder=True), getattr(deep, "qformer_config", None))):
        part.num_hidden_layers = DEPTH
        kinds = getattr(part, "layer_types", None)
        if kinds:
            part.layer_types = (list(kinds) * DEPTH)[:DEPTH]
    return deep


def _facts(name: str, kind: "type[Method]", asked: "dict[str, Model]") -> dict[str, Any]:
    """Return what there is to say of one method; what it edits is what it edits in any model that it fits."""
    import importlib

    title = (importlib.import_module(f"interp.methods.{name}").__doc__ or "").strip().split("\n")[0]
    needs = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    said = {"method": name, "needs": needs, "what it is": title}
    if not set(needs) <= set(STANDING_IN):
        return {**said, "edits": f"needs {', '.join(needs)}", "passes": None, "fits": [], "not": {}}
    method = kind(**{n: STANDING_IN[n] for n in needs})
    refused = {m: why for m, loaded in asked.items() if (why := method.refusal(loaded))}
    fits = [m for m in asked if m not in refused]
    edits = dict.fromkeys(site for m in fits for site in _edits(method, asked[m]))
    return {**said, "edits": ", ".join(edits), "passes": method.passes, "fits": fits, "not": refused}


def _edits(method: "Method", model: "Model") -> list[str]:
    """Return the sites of a method's interventions, and whether it acts on the choice of tokens or brings a loop."""
    from interp.interventions.method import Method

    interventions = [c for c in method.interventions(model) if not c.read_only]
    sites = dict.fromkeys(c.site if c.part == "decoder" else f"{c.part}.{c.site}" for c in interventions)
    chooses = ["next token"] if type(method).rules is not Method.rules else []
    return [*sites, *chooses, *(["decoding loop"] if method.decodes else [])]


def _fits(fits: list[str], refused: dict[str, str]) -> str:
    """Return which models fit, and each reason why others do not, in one cell."""
    if not refused:
        return "all" if len(fits) > 1 else "yes"
    if len(refused) == 1 and not fits:
        return f"no: {next(iter(refused.values()))}"
    reasons: dict[str, list[str]] = {}
    for name, why in refused.items():
        reasons.setdefault(why, []).append(name)
    said = [f"not {', '.join(several)}: {why}" for why, several in reasons.items()]
    return "; ".join([f"{len(fits)} of {len(fits) + len(refused)}", *said])
