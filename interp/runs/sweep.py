"""`sweep`: questions or prompts under many values of a setting, layer by layer, or without one head at a time."""

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from interp.analysis.sensitivity import Erasure
from interp.bench.base import Benchmark
from interp.data.heads import Heads
from interp.data.prompt import Prompt
from interp.data.results import Failure, Samples
from interp.experiments.effect import Change, Quantity
from interp.interventions.heads import AblateHeads
from interp.interventions.method import Method, Together, parts
from interp.interventions.method import parse_method as spoken_method
from interp.loading import load
from interp.models.model import Model
from interp.registry import nearest
from interp.runs import identity
from interp.runs.asking import Questioning, ask, here, prompted, refuse
from interp.runs.comparison import compare
from interp.runs.prompts import Swept, sweep_heads, sweep_quantity
from interp.runs.run import chosen, questioning
from interp.runs.shards import connected, device
from interp.runs.table import Table
from interp.taps.running import NothingChanged

LAYERS = "layers"
HEADS = "heads"

Values = Mapping[str, Sequence[Any]]


@overload
def sweep(
    model: Model | str,
    what: Benchmark | str,
    *,
    over: Values | Literal["layers"],
    method: Method | str,
    **settings: Any,
) -> Table: ...
@overload
def sweep(
    model: Model | str, what: Sequence[Prompt], *, over: Values | Heads | str, of: Quantity, **settings: Any
) -> Samples[Swept]: ...
@overload
def sweep(
    model: Model | str, what: Benchmark | str | Sequence[Prompt], *, over: Heads | Literal["heads"], **settings: Any
) -> Samples[Erasure]: ...
def sweep(
    model: Model | str,
    what: Benchmark | str | Sequence[Prompt],
    *,
    over: Values | Heads | str,
    of: Quantity | None = None,
    method: Method | str | None = None,
    **settings: Any,
) -> Table | Samples[Erasure] | Samples[Swept]:
    """Return what becomes of a benchmark's scores, of replies, or of a quantity, under many settings or without each head.

    Everything is kept in `folder`, like runs: a sweep that was killed goes on, and nothing is computed twice.

    - A benchmark over settings or layers: the table of its scores.
    - A benchmark or prompts over heads: the exact erasure of each head from the replies (see `erase_heads`); a benchmark's are those
      of the model as it is, prompts bring theirs (`prompt.with_response(reply)`).
    - Prompts with `of`, over anything: the quantity of every prompt; a head is taken away by `AblateHeads`, at every position.

    Args:
        model: a model, or the name of one.
        what: a benchmark, or prompts.
        over: the values of one or more settings of `method` (all combinations: `{"enhance": [1.0, 1.15, 1.3]}`); `layers`, the method
            in each layer alone; some `Heads`, or `heads` for all, one at a time.
        of: what is followed in prompts, as in `effect`; of a benchmark it is the scores.
        method: whose settings or layers vary; none for heads.
        settings: `folder`, `resume`, `progress`, `strict`, `ray`, `gpus_per_replica`; for a benchmark all of `run`; over heads
            without `of`, `at` (see `erase_heads`).

    Raises:
        ValueError: nothing to sweep over, a setting that the method does not have, or what `run` refuses.
        TypeError: what does not go together, such as a method with heads.
    """
    benchmark = isinstance(what, (Benchmark, str))
    _refuse_mixture(over, method, of, benchmark=benchmark)
    loaded = load(model) if isinstance(model, str) else model
    which: Any = None if over == HEADS else over
    given: Any = what
    if method is None:
        if of is not None:
            return sweep_quantity(loaded, given, _without(loaded, which), of=of, name=HEADS, **settings)
        return (sweep_replies if benchmark else sweep_heads)(loaded, given, which, **settings)
    if of is None:
        return sweep_settings(loaded, given, over=which, method=method, **settings)
    base = _named(method)
    variants = {_words(point): varied(base, point) for point in _points(loaded, which)}
    return sweep_quantity(loaded, given, variants, of=of, name=identity.method_name(base), **settings)


def _refuse_mixture(over: Any, method: Any, of: Any, *, benchmark: bool) -> None:
    """Refuse what does not go together, before a model is loaded."""
    if isinstance(over, str) and over not in (LAYERS, HEADS):
        near = nearest(over, (LAYERS, HEADS))
        raise ValueError(
            f"over is a mapping from settings to values, Heads, '{LAYERS}' or '{HEADS}', got {over!r}{near}"
        )
    heads = isinstance(over, Heads) or over == HEADS
    if heads and method is not None:
        raise TypeError(
            "heads are taken from the model as it is: leave method out, or sweep over its settings or layers"
        )
    if not heads and method is None:
        raise TypeError("settings and layers are those of a method, say which: method='vaf'")
    if benchmark and of is not None:
        raise TypeError("of a benchmark, its scores are followed; of= is for prompts")
    if not benchmark and not heads and of is None:
        raise TypeError(
            f"over prompts, {over!r} needs what is followed: of=Loss(), of=Probability('Yes'); heads alone do without"
        )
    if of is not None and not isinstance(of, Quantity):
        raise TypeError(
            f"of is a Quantity such as Loss() or Probability('Yes'), see interp.experiments.effect; got {of!r}"
        )


def sweep_settings(
    model: Model,
    benchmark: Benchmark | str,
    *,
    over: Values | str,
    method: Method | str,
    folder: str | Path = "runs",
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
    **settings: Any,
) -> Table:
    """Return the table of a method under every combination of some values; see `sweep`.

    Its frame has a column for each setting that varies.

    Raises:
        ValueError: no value, or a setting that the method does not have.
    """
    made = chosen(model, benchmark, [])
    base, points = _named(method), _points(model, over)
    variants = [None, *(varied(base, point) for point in points)]
    kept, questions = _questions(model, made.benchmark, gpus_per_replica, settings)
    for variant in variants:
        refuse(questions, variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)  # one of the values may be the neutral one
        with connected(model, ray, gpus_per_replica) as shards:
            answers = here if shards is None else shards.answers
            runs = [ask(questions, v, folder, answers=answers, **kept) for v in variants]
    names = [identity.GREEDY, *(f"{identity.method_name(base)} {_words(point)}" for point in points)]
    table = compare(runs, benchmark=made.benchmark, names=names)
    where = dict(zip(names[1:], points, strict=True))
    columns: dict[str, Any] = {n: [where.get(m, {}).get(n) for m in table.frame["method"]] for n in points[0]}
    return replace(table, frame=table.frame.assign(**columns))


def sweep_replies(
    model: Model,
    benchmark: Benchmark | str,
    heads: Heads | Iterable[tuple[int, int]] | None = None,
    *,
    at: Literal["step", "all"] = "step",
    folder: str | Path = "runs",
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
    **settings: Any,
) -> Samples[Erasure]:
    """Return the exact erasure of every head from the model's own replies to a benchmark; see `sweep`.

    Raises:
        ValueError: not one sample has a reply, or heads that the model does not have.
    """
    kept, what = _questions(model, chosen(model, benchmark, []).benchmark, gpus_per_replica, settings)
    refuse(what, None)
    with connected(model, ray, gpus_per_replica) as shards:
        rows = ask(what, None, folder, answers=here if shards is None else shards.answers, **kept).rows()
    told = [i for i, row in enumerate(rows) if not row.error]
    if not told:
        raise ValueError(f"not one of {len(rows)} samples has a reply; the first says: {rows[0].error}")
    prompts = [prompted(what, what.samples[i]).with_response(rows[i].ids) for i in told]
    where = {"folder": folder, "ray": ray, "gpus_per_replica": gpus_per_replica}
    swept = sweep_heads(model, prompts, heads, at=at, **where, **kept)
    lost = [Failure(i, row.error) for i, row in enumerate(rows) if row.error]
    failed = [*lost, *(replace(f, sample=told[f.sample]) for f in swept.failed)]
    return replace(
        swept, samples=tuple(told[i] for i in swept.samples), failed=tuple(sorted(failed, key=lambda f: f.sample))
    )


def varied(method: Method, settings: Mapping[str, Any]) -> Method:
    """Return a method with other settings; of several at once, the one that has a setting gets it.

    Raises:
        ValueError: none of them has it, or several do.
    """
    each = list(parts(method))
    for name, value in settings.items():
        having = [i for i, m in enumerate(each) if name in m.settings()]
        if len(having) != 1:
            near = nearest(name, {n for m in each for n in m.settings()}) if not having else ""
            there = "; ".join(f"{type(m).__name__.lower()}: {', '.join(m.settings())}" for m in each)
            raise ValueError(f"{'no' if not having else 'more than one'} method has a setting {name!r}{near}; {there}")
        kind = next(f.type for f in fields(each[having[0]]) if f.name == name)  # type: ignore[arg-type]
        settled = float(value) if kind is float else tuple(value) if isinstance(value, list) else value
        each[having[0]] = replace(each[having[0]], **{name: settled})  # type: ignore[type-var]
    return each[0] if len(each) == 1 else Together(tuple(each))


def _questions(
    model: Model, benchmark: Benchmark, gpus: float, settings: dict[str, Any]
) -> tuple[dict[str, Any], Questioning]:
    """Return how runs are kept, and what is asked, from settings of `run`."""
    kept = {"progress": True} | {n: settings.pop(n) for n in ("progress", "resume", "strict") if n in settings}
    asked = {n: settings.pop(n) for n in ("batch_size", "limit", "seed", "system_prompt") if n in settings}
    questions = questioning(model, benchmark, options=settings, **asked)
    return kept, replace(questions, device=device(model, gpus))


def _named(method: Method | str) -> Method:
    if isinstance(method, str) and method.strip().lower() == identity.GREEDY:
        raise ValueError("greedy has no settings to sweep over; name a method")
    return spoken_method(method) if isinstance(method, str) else method


def _points(model: Model, over: Values | str) -> list[dict[str, Any]]:
    values = {LAYERS: [(i,) for i in range(model.layers)]} if isinstance(over, str) else dict(over)
    if not values or not all(values.values()):
        raise ValueError(f"there is nothing to sweep over in {over!r}; give values: {{'enhance': [1.0, 1.15, 1.3]}}")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _without(model: Model, heads: Heads | None) -> dict[str, Change]:
    every = itertools.product(range(model.layers), range(model.heads)) if heads is None else heads
    return {f"{layer}.{head}": AblateHeads(Heads(((layer, head),))) for layer, head in every}


def _words(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{n}={v}" for n, v in point.items())
