"""Sweeps over prompts: each head erased from replies, or a quantity under many interventions, with one file per prompt.

`sweep_heads` and `sweep_quantity` are the two sweeps that `interp.runs.sweep.sweep` offers for prompts; `compute_each` keeps the
result of any job over prompts on disk and computes only what is missing.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, final

from jaxtyping import Float
from torch import Tensor, tensor

from interp.analysis.sensitivity import Erasure
from interp.data.heads import Heads
from interp.data.prompt import Prompt
from interp.data.result import Result
from interp.data.results import Failure, Samples
from interp.experiments.effect import AnyIntervention, Quantity
from interp.experiments.erasure import erase_heads
from interp.interventions.method import resolve
from interp.models.model import Model
from interp.runs import identity
from interp.runs.shards import LostJob, connect, device_kind
from interp.taps.audit import NothingChanged

_R = TypeVar("_R", bound=Result)


@final
@dataclass(frozen=True)
class SweptQuantity(Result):
    """A quantity of one prompt under each of several interventions; `without` is its value in the baseline."""

    under: Float[Tensor, " candidate"]
    without: float
    candidates: tuple[str, ...]
    quantity: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `under`."""
        return "under"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the interventions."""
        return {"candidate": list(self.candidates)}


def sweep_heads(
    model: Model,
    prompts: Sequence[Prompt],
    heads: Heads | Iterable[tuple[int, int]] | None = None,
    *,
    at: Literal["step", "all"] = "step",
    **kept: Any,
) -> Samples[Erasure]:
    """Return the exact erasure of every head for every prompt, with one file per prompt; see `sweep` and `erase_heads`.

    Args:
        model: the model.
        prompts: conversations with their replies.
        heads: which heads; all by default.
        at: where a head is erased.
        kept: `folder`, `resume`, `progress`, `strict`, `ray` and `gpus_per_replica`, as for `run`.

    Raises:
        ValueError: no prompt, or heads that the model does not have.
    """
    which = None if heads is None else [(layer, head) for layer, head in heads]
    known = {"at": at, "heads": None if which is None else [list(pair) for pair in which]}
    return compute_each(model, prompts, Erasure, ("heads", at), known, job=_erase, settings=(at, which), **kept)


def sweep_quantity(
    model: Model,
    prompts: Sequence[Prompt],
    variants: Mapping[str, AnyIntervention],
    *,
    of: Quantity,
    name: str,
    **kept: Any,
) -> Samples[SweptQuantity]:
    """Return a quantity under every intervention for every prompt, with one file per prompt; see `sweep` and `effect`.

    Args:
        model: the model.
        prompts: the conversations.
        variants: the interventions by name.
        of: the quantity.
        name: what is swept, in one word.
        kept: `folder`, `resume`, `progress`, `strict`, `ray` and `gpus_per_replica`, as for `run`.

    Raises:
        ValueError: no prompt, or no intervention.
        TypeError: a setting has no JSON form.
    """
    if not variants:
        raise ValueError("no intervention to try; give heads, layers or values")
    known = {
        "of": identity.to_json(of, "of"),
        "under": [[n, identity.intervention_identity(c)] for n, c in variants.items()],
    }
    what = (type(of).__name__, name)
    return compute_each(model, prompts, SweptQuantity, what, known, job=_follow, settings=(of, dict(variants)), **kept)


def compute_each(  # noqa: PLR0913  # the result, what it depends on, and where it is kept
    model: Model,
    prompts: Sequence[Prompt],
    kind: type[_R],
    what: tuple[str, str],
    known: Mapping[str, Any],
    *,
    job: Callable[..., _R | LostJob],
    settings: tuple[Any, ...],
    folder: str | Path = "runs",
    resume: bool = True,
    progress: bool = True,
    strict: bool = False,
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
) -> Samples[_R]:
    """Return the result of a job for every prompt, each kept in a file whose path holds the hash of what it depends on.

    Raises:
        ValueError: no prompt, or no prompt for which the job succeeds.
    """
    from tqdm import tqdm

    if not prompts:
        raise ValueError("no prompt to sweep over; pass at least one")
    model_entries = {**identity.model_identity(model), "device": device_kind(model, gpus_per_replica)}
    place = Path(folder) / identity.name_directory(
        model.name, *what, {**model_entries, **known, "versions": identity.package_versions()}
    )
    files = [place / f"{_prompt_hash(prompt)}.safetensors" for prompt in prompts]
    missing = {f: (p, *settings) for f, p in zip(files, prompts, strict=True) if not (resume and f.is_file())}
    reasons: dict[Path, str] = {}
    with connect(model, ray, gpus_per_replica) as shards:
        given = list(missing.values())
        made = (job(model, *g) for g in given) if shards is None else shards.map(job, given)
        bar = tqdm(made, desc=f"sweep {' '.join(what)}", total=len(given), unit="prompt", disable=not progress)
        for file, result in zip(missing, bar, strict=True):
            if isinstance(result, kind):
                result.save(file)
                continue
            reasons[file] = result.reason
            if strict:
                raise ValueError(
                    f"prompt {files.index(file)} cannot be swept: {result.reason}. Without strict, it is left out"
                )
    done = [i for i, f in enumerate(files) if f not in reasons]
    failed = tuple(Failure(i, reasons[f]) for i, f in enumerate(files) if f in reasons)
    if not done:
        raise ValueError(
            f"none of the {len(prompts)} prompts could be swept; the error of the first: {failed[0].reason}"
        )
    return Samples(tuple(kind.load(files[i]) for i in done), tuple(done), failed)


def _erase(model: Model, prompt: Prompt, at: Literal["step", "all"], heads: Any) -> Erasure | LostJob:
    try:
        return erase_heads(model, prompt, at=at, heads=heads)
    except ValueError as error:
        return LostJob(str(error))


def _follow(
    model: Model, prompt: Prompt, of: Quantity, variants: Mapping[str, AnyIntervention]
) -> SweptQuantity | LostJob:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingChanged)  # one of the values may be neutral
            without = of(model, prompt, ())
            under = [of(model, resolve(model, [prompt], [c]).prompts[0], [c]) for c in variants.values()]
    except ValueError as error:
        return LostJob(str(error))
    return SweptQuantity(tensor(under), without, tuple(variants), str(of))


def _prompt_hash(prompt: Prompt) -> str:
    """Return the hash of all model inputs of a prompt, its reply included, and of its marked positions."""
    layout = prompt.layout
    content = identity.to_json(
        {"inputs": dict(prompt.inputs), "segments": layout.segment, "marks": layout.marks}, "prompt"
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[: identity.HASH_DIGITS]
