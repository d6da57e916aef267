"""`interp methods`: what each published method edits, what it costs, and which models it fits.

Which kinds of models a method fits follows from building a small model of every kind. Importing transformers for that takes
several seconds alone, so the answers are recorded in `interp/methods/facts.json`, and read from there without importing torch.
A method that is not in the record, or any method once there is a new kind of model, is computed when it is asked for;
`interp methods --record` brings the record up to date, and a test compares it with the methods.
"""

import copy
import json as js
import pkgutil
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp.cli import inputs
from interp.cli.screen import as_json, progress, say, table
from interp.registry import nearest

if TYPE_CHECKING:
    from interp.interventions.method import Method
    from interp.models.model import Model

EXAMPLES = """[bold]Examples[/bold]

interp methods

interp methods vcd damro

interp methods vcd damro --model llava-hf/llava-1.5-7b-hf

interp methods --json
"""
PACKAGE = Path(__file__).parents[1]
RECORD = PACKAGE / "methods" / "facts.json"
"""What every method edits, costs and fits, by name, and the kinds of models for which that was computed."""
DEPTH = 12
"""Decoder layers of the small models: enough that no method is refused for the depth of the model."""
STAND_INS = {"heads": ((0, 0),)}
"""Values for settings without a default, so that a method can be built to see what it edits."""


def methods(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[METHOD]...", help="Methods to list; all by default.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Say whether each method fits this model; by default, which kinds of models it fits."
        ),
    ] = None,
    record: Annotated[bool, typer.Option("--record", hidden=True, help="Bring the record up to date.")] = False,
    json: inputs.AsJson = False,
) -> None:
    """List the published methods: what each edits, how many passes one token takes, and which models it fits."""
    chosen = _chosen(names)
    if record:
        RECORD.write_text(js.dumps(compute_record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"written to {RECORD}")
        return
    rows = _recorded(chosen) if model is None else _computed(chosen, {model: inputs.load(model)})
    if json:
        as_json(rows)
        return
    heads = ("method", "edits", "passes", "fits", "what it is")
    table(heads, [tuple(_fits(row["fits"], row["not"]) if h == "fits" else row[h] for h in heads) for row in rows])


def _chosen(names: list[str] | None) -> list[str]:
    """Return the names of the methods to list; they are those of the files, so that nothing is imported to know them."""
    everything = sorted(f.name for f in pkgutil.iter_modules([str(PACKAGE / "methods")]) if f.name[0] != "_")
    for name in names or []:
        if name not in everything:
            known = ", ".join(everything)
            raise typer.BadParameter(f"no method {name!r}{nearest(name, everything)}; known: {known}")
    return names or everything


def _recorded(names: list[str]) -> list[dict[str, Any]]:
    """Return the facts about methods from the record, and compute those that it does not have."""
    record = js.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {"kinds": [], "methods": {}}
    known = sorted(f.name for f in pkgutil.iter_modules([str(PACKAGE / "families")]))
    if record["kinds"] != [name for name in known if name[0] != "_" and name != "base"]:
        record["methods"] = {}
    missing = [name for name in names if name not in record["methods"]]
    computed = {row["method"]: row for row in (_computed(missing, _small_models()) if missing else [])}
    return [record["methods"].get(name) or computed[name] for name in names]


def compute_record() -> dict[str, Any]:
    """Return the content of the record: the kinds of models, and the facts about every method."""
    from interp.families.base import family_names

    rows = _computed(_chosen(None), _small_models())
    return {"kinds": family_names(), "methods": {row["method"]: row for row in rows}}


def _computed(names: list[str], models: "dict[str, Model]") -> list[dict[str, Any]]:
    from interp.interventions.method import methods as method_classes

    classes = method_classes()
    return [_facts(name, classes[name], models) for name in names]


def _small_models() -> "dict[str, Model]":
    """Return a random model of every family that has one: small, but deep enough that no method is refused for its depth."""
    import transformers

    import interp
    from interp.families.base import family, family_names

    transformers.utils.logging.set_verbosity_error()
    models = {}
    with progress(len(family_names()), "kinds of models") as tell:
        for name in family_names():
            tell(name)
            if (tiny := family(name).tiny) is not None:
                module, processor = tiny()
                models[name] = interp.load(type(module)(_deep(module.config)).eval(), processor=processor)
    return models


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
    """Return the facts about one method; its edits are those in any of the models that it fits."""
    import importlib

    title = (importlib.import_module(f"interp.methods.{name}").__doc__ or "").strip().split("\n")[0]
    needs = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    said = {"method": name, "needs": needs, "what it is": title}
    if not set(needs) <= set(STAND_INS):
        return {**said, "edits": f"needs {', '.join(needs)}", "passes": None, "fits": [], "not": {}}
    method = kind(**{n: STAND_INS[n] for n in needs})
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
