"""`sweep`: the same questions under many values of a setting, or the same replies without one head at a time."""

import hashlib
import itertools
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from interp.analysis.sensitivity import Erasure
from interp.benchmark import Benchmark
from interp.experiments.erasure import erase_heads
from interp.heads import Heads
from interp.loading import load
from interp.method import Method, Together, parts
from interp.model import Model
from interp.prompt import Prompt
from interp.running import NothingChanged
from interp.runs import identity
from interp.runs.asking import ask, here, refuse
from interp.runs.comparison import compare
from interp.runs.run import chosen, questioning
from interp.runs.shards import Lost, connected, device
from interp.runs.table import Table
from interp.samples import Failure, Samples

LAYERS = "layers"
HEADS = "heads"


@overload
def sweep(
    model: Model | str,
    what: Benchmark | str,
    *,
    over: Mapping[str, Sequence[Any]] | Literal["layers"],
    method: Method | str,
    **settings: Any,
) -> Table: ...
@overload
def sweep(
    model: Model | str, what: Sequence[Prompt], *, over: Heads | Literal["heads"], **settings: Any
) -> Samples[Erasure]: ...
def sweep(
    model: Model | str,
    what: Benchmark | str | Sequence[Prompt],
    *,
    over: Mapping[str, Sequence[Any]] | Heads | str,
    **settings: Any,
) -> Table | Samples[Erasure]:
    """Return what becomes of a benchmark's scores under many settings of a method, or of replies without each head.

    Everything is kept in `folder`, like runs: a sweep that was killed goes on, and nothing is computed twice.

    Args:
        model: a model, or the name of one.
        what: a benchmark, or prompts that hold a reply (`prompt.with_response(reply)`).
        over: for a benchmark, the values of one or more settings of `method` (all combinations: `{"enhance": [1.0, 1.15, 1.3]}`), or
            `layers`, each layer alone; for prompts, heads, or `heads` for all, erased one at a time.
        settings: for a benchmark `method` and those of `run`; for prompts `at` (see `erase_heads`), `folder` and `progress`.

    Raises:
        ValueError: nothing to sweep over, a setting that the method does not have, or what `run` refuses.
        TypeError: prompts with settings to sweep over, or a benchmark with heads.
    """
    loaded = load(model) if isinstance(model, str) else model
    if isinstance(what, (Benchmark, str)):
        if isinstance(over, Heads) or over == HEADS:
            raise TypeError(
                "heads are erased from replies: sweep(model, [prompt.with_response(reply), ...], over='heads')"
            )
        return sweep_settings(loaded, what, over=over, **settings)  # type: ignore[arg-type]  # it says what it takes
    if not isinstance(over, Heads) and over != HEADS:
        raise TypeError(
            f"over prompts, sweep takes heads or 'heads', not {over!r}; settings are swept over a benchmark"
        )
    return sweep_heads(loaded, what, None if over == HEADS else over, **settings)  # type: ignore[arg-type]


def sweep_settings(  # noqa: PLR0913  # what run takes, and what varies
    model: Model,
    benchmark: Benchmark | str,
    *,
    over: Mapping[str, Sequence[Any]] | str,
    method: Method | str,
    folder: str | Path = "runs",
    progress: bool = True,
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
    **settings: Any,
) -> Table:
    """Return the table of a method under every combination of some values; see `sweep`.

    Its frame has a column for each setting that varies.

    Raises:
        ValueError: no value, or a setting that the method does not have.
    """
    made = chosen(model, benchmark, [method])
    if made.methods[-1] is None:
        raise ValueError("greedy has no settings to sweep over; name a method")
    if isinstance(over, str) and over != LAYERS:
        raise ValueError(f"over is a mapping from settings to values, or '{LAYERS}', got {over!r}")
    values = {LAYERS: [(i,) for i in range(model.layers)]} if isinstance(over, str) else dict(over)
    if not values or not all(values.values()):
        raise ValueError(f"there is nothing to sweep over in {over!r}; give values: {{'enhance': [1.0, 1.15, 1.3]}}")
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    variants = [None, *(varied(made.methods[-1], point) for point in points)]
    kept = {n: settings.pop(n) for n in ("resume", "strict") if n in settings}
    asked = {n: settings.pop(n) for n in ("batch_size", "limit", "seed", "system_prompt") if n in settings}
    questions = questioning(model, made.benchmark, options=settings, **asked)
    questions = replace(questions, device=device(model, gpus_per_replica))
    for variant in variants:
        refuse(questions, variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)  # one of the values may be the neutral one
        with connected(model, ray, gpus_per_replica) as shards:
            answers = here if shards is None else shards.answers
            runs = [ask(questions, v, folder, progress=progress, answers=answers, **kept) for v in variants]
    base = identity.method_name(made.methods[-1])
    words = [", ".join(f"{n}={v}" for n, v in point.items()) for point in points]
    names = [identity.GREEDY, *(f"{base} {said}" for said in words)]
    table = compare(runs, benchmark=made.benchmark, names=names)
    where = dict(zip(names[1:], points, strict=True))
    columns: dict[str, Any] = {n: [where.get(m, {}).get(n) for m in table.frame["method"]] for n in values}
    return replace(table, frame=table.frame.assign(**columns))


def varied(method: Method, settings: Mapping[str, Any]) -> Method:
    """Return a method with other settings; of several at once, the one that has a setting gets it.

    Raises:
        ValueError: none of them has it, or several do.
    """
    each = list(parts(method))
    for name, value in settings.items():
        having = [i for i, m in enumerate(each) if name in m.settings()]
        if len(having) != 1:
            there = "; ".join(f"{type(m).__name__.lower()}: {', '.join(m.settings())}" for m in each)
            raise ValueError(f"{'no' if not having else 'more than one'} method has a setting {name!r}; {there}")
        kind = next(f.type for f in fields(each[having[0]]) if f.name == name)  # type: ignore[arg-type]
        settled = float(value) if kind is float else tuple(value) if isinstance(value, list) else value
        each[having[0]] = replace(each[having[0]], **{name: settled})  # type: ignore[type-var]
    return each[0] if len(each) == 1 else Together(tuple(each))


def sweep_heads(  # noqa: PLR0913  # what erasing takes, and where it is done
    model: Model,
    prompts: Sequence[Prompt],
    heads: Heads | Iterable[tuple[int, int]] | None = None,
    *,
    at: Literal["step", "all"] = "step",
    folder: str | Path = "runs",
    progress: bool = True,
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
) -> Samples[Erasure]:
    """Return the exact erasure of every head for every prompt, one file a prompt; see `sweep` and `erase_heads`.

    Raises:
        ValueError: no prompt, or heads that the model does not have.
    """
    from tqdm import tqdm

    if not prompts:
        raise ValueError("there is no prompt to sweep over")
    which = None if heads is None else [list(pair) for pair in heads]
    decides = {**identity.model_identity(model), "device": device(model, gpus_per_replica)}
    known = {**decides, "at": at, "heads": which, "versions": identity.versions()}
    place = Path(folder) / identity.directory_name(model.name, "heads", at, known)
    files = [place / f"{_prompt_hash(prompt)}.safetensors" for prompt in prompts]
    missing = {f: (prompt, at, which) for f, prompt in zip(files, prompts, strict=True) if not f.is_file()}
    reasons: dict[Path, str] = {}
    with connected(model, ray, gpus_per_replica) as shards:
        given = list(missing.values())
        made = (_erased(model, *g) for g in given) if shards is None else shards.each(_erased, given)
        bar = tqdm(made, desc=f"erase heads at {at}", total=len(given), unit="prompt", disable=not progress)
        for file, result in zip(missing, bar, strict=True):
            if isinstance(result, Erasure):
                result.save(file)
            else:
                reasons[file] = result.reason
    done = [i for i, f in enumerate(files) if f not in reasons]
    failed = tuple(Failure(i, reasons[f]) for i, f in enumerate(files) if f in reasons)
    if not done:
        raise ValueError(f"not one of {len(prompts)} prompts could be swept; the first says: {failed[0].reason}")
    return Samples(tuple(Erasure.load(files[i]) for i in done), tuple(done), failed)


def _erased(model: Model, prompt: Prompt, at: Literal["step", "all"], heads: Sequence[Any] | None) -> Erasure | Lost:
    try:
        return erase_heads(model, prompt, at=at, heads=None if heads is None else [(row, head) for row, head in heads])
    except ValueError as error:
        return Lost(str(error))


def _prompt_hash(prompt: Prompt) -> str:
    """Return the hash of everything the model is given, the reply included."""
    told = identity.plain({"inputs": dict(prompt.inputs), "segments": prompt.layout.segment}, "prompt")
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[: identity.DIGITS]
