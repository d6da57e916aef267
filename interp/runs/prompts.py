"""Sweeps over prompts: heads erased from replies one at a time, or a quantity followed under many changes; one file a prompt."""

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
from interp.experiments.effect import Change, Quantity
from interp.experiments.erasure import erase_heads
from interp.interventions.method import resolve
from interp.models.model import Model
from interp.runs import identity
from interp.runs.shards import Lost, connected, device
from interp.taps.running import NothingChanged

R = TypeVar("R", bound=Result)


@final
@dataclass(frozen=True)
class Swept(Result):
    """A quantity of one prompt under each of several changes; `without` is its value without any."""

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
        """The changes' names."""
        return {"candidate": list(self.candidates)}


def sweep_heads(
    model: Model,
    prompts: Sequence[Prompt],
    heads: Heads | Iterable[tuple[int, int]] | None = None,
    *,
    at: Literal["step", "all"] = "step",
    **kept: Any,
) -> Samples[Erasure]:
    """Return the exact erasure of every head for every prompt, one file a prompt; see `sweep` and `erase_heads`.

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
    return each(model, prompts, Erasure, ("heads", at), known, job=_erased, settings=(at, which), **kept)


def sweep_quantity(
    model: Model, prompts: Sequence[Prompt], variants: Mapping[str, Change], *, of: Quantity, name: str, **kept: Any
) -> Samples[Swept]:
    """Return a quantity under every change for every prompt, one file a prompt; see `sweep` and `effect`.

    Args:
        model: the model.
        prompts: the conversations.
        variants: the changes by name.
        of: the quantity.
        name: what is swept, in a word.
        kept: `folder`, `resume`, `progress`, `strict`, `ray` and `gpus_per_replica`, as for `run`.

    Raises:
        ValueError: no prompt, or no change.
        TypeError: a setting that cannot be written down.
    """
    if not variants:
        raise ValueError("there is no change to try; give heads, layers or values")
    known = {"of": identity.plain(of, "of"), "under": [[n, identity.change(c)] for n, c in variants.items()]}
    what = (type(of).__name__, name)
    return each(model, prompts, Swept, what, known, job=_followed, settings=(of, dict(variants)), **kept)


def each(  # noqa: PLR0913  # what is made, what it depends on, and where it is kept
    model: Model,
    prompts: Sequence[Prompt],
    kind: type[R],
    what: tuple[str, str],
    known: Mapping[str, Any],
    *,
    job: Callable[..., R | Lost],
    settings: tuple[Any, ...],
    folder: str | Path = "runs",
    resume: bool = True,
    progress: bool = True,
    strict: bool = False,
    ray: str | None = None,
    gpus_per_replica: float = 0.0,
) -> Samples[R]:
    """Return what a job makes of every prompt, each kept in a file whose place says what it depends on.

    Raises:
        ValueError: no prompt, or none that the job can be done for.
    """
    from tqdm import tqdm

    if not prompts:
        raise ValueError("there is no prompt to sweep over")
    decides = {**identity.model_identity(model), "device": device(model, gpus_per_replica)}
    place = Path(folder) / identity.directory_name(
        model.name, *what, {**decides, **known, "versions": identity.versions()}
    )
    files = [place / f"{_prompt_hash(prompt)}.safetensors" for prompt in prompts]
    missing = {f: (p, *settings) for f, p in zip(files, prompts, strict=True) if not (resume and f.is_file())}
    reasons: dict[Path, str] = {}
    with connected(model, ray, gpus_per_replica) as shards:
        given = list(missing.values())
        made = (job(model, *g) for g in given) if shards is None else shards.each(job, given)
        bar = tqdm(made, desc=f"sweep {' '.join(what)}", total=len(given), unit="prompt", disable=not progress)
        for file, result in zip(missing, bar, strict=True):
            if isinstance(result, kind):
                result.save(file)
                continue
            reasons[file] = result.reason
            if strict:
                raise ValueError(
                    f"prompt {files.index(file)} cannot be swept: {result.reason}. Without strict it is left out"
                )
    done = [i for i, f in enumerate(files) if f not in reasons]
    failed = tuple(Failure(i, reasons[f]) for i, f in enumerate(files) if f in reasons)
    if not done:
        raise ValueError(f"not one of {len(prompts)} prompts could be swept; the first says: {failed[0].reason}")
    return Samples(tuple(kind.load(files[i]) for i in done), tuple(done), failed)


def _erased(model: Model, prompt: Prompt, at: Literal["step", "all"], heads: Any) -> Erasure | Lost:
    try:
        return erase_heads(model, prompt, at=at, heads=heads)
    except ValueError as error:
        return Lost(str(error))


def _followed(model: Model, prompt: Prompt, of: Quantity, variants: Mapping[str, Change]) -> Swept | Lost:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingChanged)  # one of the values may be the neutral one
            without = of(model, prompt, ())
            under = [of(model, resolve(model, [prompt], [c]).prompts[0], [c]) for c in variants.values()]
    except ValueError as error:
        return Lost(str(error))
    return Swept(tensor(under), without, tuple(variants), str(of))


def _prompt_hash(prompt: Prompt) -> str:
    """Return the hash of everything the model is given, the reply included, and of what is marked."""
    layout = prompt.layout
    told = identity.plain({"inputs": dict(prompt.inputs), "segments": layout.segment, "marks": layout.marks}, "prompt")
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[: identity.DIGITS]
