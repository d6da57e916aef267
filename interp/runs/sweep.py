"""`sweep`: a benchmark or prompts under many values of a setting, in one layer at a time, or without one head at a time.

`sweep` chooses between `sweep_settings` and `sweep_replies` (benchmarks, below) and the sweeps over prompts of
`interp.runs.prompt_sweep`.
"""

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from interp.analysis.sensitivity import Erasure
from interp.arguments import check_settings, expect_method, expect_model, list_prompts
from interp.bench.base import Benchmark
from interp.data.heads import Heads
from interp.data.prompt import Prompt
from interp.data.results import Failure, Samples
from interp.experiments.effect import AnyIntervention, Quantity, check_quantity
from interp.interventions.heads import AblateHeads
from interp.interventions.method import Method, Together, parts
from interp.loading import load
from interp.models.model import Model
from interp.registry import nearest
from interp.runs import identity
from interp.runs.comparison import compare
from interp.runs.execution import answer_here, execute
from interp.runs.prompt_sweep import SweptQuantity, sweep_heads, sweep_quantity
from interp.runs.run import load_parts
from interp.runs.shards import connect, device_kind
from interp.runs.spec import RunSpec, build_prompt, build_spec, refuse_unfit_run
from interp.runs.table import ComparisonTable
from interp.taps.audit import NothingChanged

_LAYERS = "layers"
_HEADS = "heads"

SettingValues = Mapping[str, Sequence[Any]]


@overload
def sweep(
    model: Model | str,
    what: Benchmark | str,
    *,
    over: SettingValues | Literal["layers"],
    method: Method | str,
    **settings: Any,
) -> ComparisonTable: ...
@overload
def sweep(
    model: Model | str,
    what: Sequence[Prompt],
    *,
    over: SettingValues | Heads | str,
    of: Quantity | str,
    **settings: Any,
) -> Samples[SweptQuantity]: ...
@overload
def sweep(
    model: Model | str, what: Benchmark | str | Sequence[Prompt], *, over: Heads | Literal["heads"], **settings: Any
) -> Samples[Erasure]: ...
def sweep(
    model: Model | str,
    what: Benchmark | str | Sequence[Prompt],
    *,
    over: SettingValues | Heads | str,
    of: Quantity | str | None = None,
    method: Method | str | None = None,
    **settings: Any,
) -> ComparisonTable | Samples[Erasure] | Samples[SweptQuantity]:
    """Return the scores of a benchmark, the probabilities of replies, or a quantity, under many settings or without each head.

    All results are kept in `folder`, like runs: a sweep that was killed resumes, and nothing is computed twice.

    - A benchmark over settings or layers: the table of its scores.
    - A benchmark or prompts over heads: the exact erasure of each head from the replies (see `erase_heads`): the baseline's replies to a
      benchmark, or the replies that prompts carry (`prompt.with_response(reply)`).
    - Prompts with `of`, over anything: the quantity of every prompt; a head is removed by `AblateHeads`, at every position.

    Args:
        model: a model, or its name.
        what: a benchmark, or prompts.
        over: values of one or more settings of `method`, in all combinations (`{"enhance": [1.0, 1.15, 1.3]}`); `layers`, the method in
            each layer alone; some `Heads`, or `heads` for all, one at a time.
        of: the quantity that is measured on prompts, as in `effect`; a benchmark has its scores instead.
        method: the method whose settings or layers vary; none for heads.
        settings: `folder`, `resume`, `progress`, `strict`, `ray`, `gpus_per_replica`; for a benchmark all of `run`; over heads
            without `of`, `at` (see `erase_heads`).

    Raises:
        ValueError: nothing to sweep over, a setting that the method does not have, or anything that `run` refuses.
        TypeError: arguments that exclude each other, such as a method with heads.
    """
    check_settings(**settings)
    of = None if of is None else check_quantity(of)
    benchmark = isinstance(what, (Benchmark, str))
    what = what if isinstance(what, (Benchmark, str)) else list_prompts(what, "what")
    _refuse_mixture(over, method, of, benchmark=benchmark)
    loaded = load(model) if isinstance(model, str) else expect_model(model)
    which: Any = None if over == _HEADS else over
    given: Any = what
    if method is None:
        if of is not None:
            return sweep_quantity(loaded, given, _without(loaded, which), of=of, name=_HEADS, **settings)
        return (sweep_replies if benchmark else sweep_heads)(loaded, given, which, **settings)
    if of is None:
        return sweep_settings(loaded, given, over=which, method=method, **settings)
    base = _parse(method)
    variants = {_words(point): vary_settings(base, point) for point in _points(loaded, which)}
    return sweep_quantity(loaded, given, variants, of=of, name=identity.name_method(base), **settings)


def _refuse_mixture(over: Any, method: Any, of: Any, *, benchmark: bool) -> None:
    """Refuse arguments that exclude each other, before a model is loaded."""
    if isinstance(over, str) and over not in (_LAYERS, _HEADS):
        near = nearest(over, (_LAYERS, _HEADS))
        raise ValueError(
            f"over is a mapping from settings to values, Heads, '{_LAYERS}' or '{_HEADS}', got {over!r}{near}"
        )
    heads = isinstance(over, Heads) or over == _HEADS
    if heads and method is not None:
        raise TypeError(
            "heads are ablated in the baseline: leave method out, or sweep over the settings or layers of the method"
        )
    if not heads and method is None:
        raise TypeError("settings and layers belong to a method; name it: method='vaf'")
    if benchmark and of is not None:
        raise TypeError("a sweep over a benchmark measures its scores; of= is for prompts")
    if not benchmark and not heads and of is None:
        raise TypeError(
            f"over prompts, {over!r} needs a quantity: of=Loss(), of=Probability('Yes'); only heads can do without"
        )


def sweep_settings(
    model: Model,
    benchmark: Benchmark | str,
    *,
    over: SettingValues | str,
    method: Method | str,
    folder: str | Path = "runs",
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
    **settings: Any,
) -> ComparisonTable:
    """Return the table of a method under every combination of values; see `sweep`.

    Its frame has a column for each setting that varies.

    Raises:
        ValueError: no value, or a setting that the method does not have.
    """
    found = load_parts(model, benchmark, [])
    base, points = _parse(method), _points(model, over)
    variants = [None, *(vary_settings(base, point) for point in points)]
    kept, spec = _split_settings(model, found.benchmark, gpus_per_replica, settings)
    for variant in variants:
        refuse_unfit_run(spec, variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)  # one of the values may be neutral
        with connect(model, ray, gpus_per_replica) as shards:
            answerer = answer_here if shards is None else shards.answer
            runs = [execute(spec, v, folder, answerer=answerer, **kept) for v in variants]
    names = [identity.GREEDY, *(f"{identity.name_method(base)} {_words(point)}" for point in points)]
    table = compare(runs, benchmark=found.benchmark, names=names)
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
    """Return the exact erasure of every head from the baseline's replies to a benchmark; see `sweep`.

    Raises:
        ValueError: no sample has a reply, or heads that the model does not have.
    """
    kept, spec = _split_settings(model, load_parts(model, benchmark, []).benchmark, gpus_per_replica, settings)
    refuse_unfit_run(spec, None)
    with connect(model, ray, gpus_per_replica) as shards:
        answerer = answer_here if shards is None else shards.answer
        rows = execute(spec, None, folder, answerer=answerer, **kept).rows()
    answered = [i for i, row in enumerate(rows) if not row.error]
    if not answered:
        raise ValueError(f"none of the {len(rows)} samples has a reply; the error of the first: {rows[0].error}")
    prompts = [build_prompt(spec, spec.samples[i]).with_response(rows[i].ids) for i in answered]
    where = {"folder": folder, "ray": ray, "gpus_per_replica": gpus_per_replica}
    swept = sweep_heads(model, prompts, heads, at=at, **where, **kept)
    lost = [Failure(i, row.error) for i, row in enumerate(rows) if row.error]
    failed = [*lost, *(replace(f, sample=answered[f.sample]) for f in swept.failed)]
    return replace(
        swept, samples=tuple(answered[i] for i in swept.samples), failed=tuple(sorted(failed, key=lambda f: f.sample))
    )


def vary_settings(method: Method, settings: Mapping[str, Any]) -> Method:
    """Return a method with other settings; of several methods at once, each setting goes to the one that has it.

    Raises:
        ValueError: no method has a setting, or several do.
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


def _split_settings(
    model: Model, benchmark: Benchmark, gpus: float, settings: dict[str, Any]
) -> tuple[dict[str, Any], RunSpec]:
    """Return the settings of `run` split into the arguments of `execute` and a spec."""
    kept = {"progress": True} | {n: settings.pop(n) for n in ("progress", "resume", "strict") if n in settings}
    asked = {n: settings.pop(n) for n in ("batch_size", "limit", "seed", "system_prompt") if n in settings}
    spec = build_spec(model, benchmark, options=settings, **asked)
    return kept, replace(spec, device=device_kind(model, gpus))


def _parse(method: Method | str) -> Method:
    if isinstance(method, str) and method.strip().lower() == identity.GREEDY:
        raise ValueError("greedy has no settings to sweep over; name a method")
    return expect_method(method)


def _points(model: Model, over: SettingValues | str) -> list[dict[str, Any]]:
    values = {_LAYERS: [(i,) for i in range(model.layers)]} if isinstance(over, str) else dict(over)
    if not values or not all(values.values()):
        raise ValueError(f"nothing to sweep over in {over!r}; give values: {{'enhance': [1.0, 1.15, 1.3]}}")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _without(model: Model, heads: Heads | None) -> dict[str, AnyIntervention]:
    every = itertools.product(range(model.layers), range(model.heads)) if heads is None else heads
    return {f"{layer}.{head}": AblateHeads(Heads(((layer, head),))) for layer, head in every}


def _words(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{n}={v}" for n, v in point.items())
