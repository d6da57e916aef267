"""What a run asks of a model, as one frozen record.

`build_spec` makes a `RunSpec` from a model, a benchmark and settings; `refuse_unfit_run` checks it against a method before anything
runs; `build_prompt` turns one sample into a prompt. `interp.runs.execution` carries the spec out, `interp.runs.identity` hashes it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Literal, final

from interp.bench.base import Benchmark, Sample
from interp.data.prompt import Prompt
from interp.interventions.method import Method, parts, refuse_unfit
from interp.models.model import Model
from interp.runs import identity


@final
@dataclass(frozen=True, eq=False)
class RunSpec:
    """A model, the questions it is asked, and how it generates its replies: everything that the rows of a run depend on.

    Args:
        model: the model.
        benchmark: the source of the samples.
        samples: the samples to ask, in this order.
        data: the hash of the samples, images included.
        batch_size: how many samples are asked together.
        seed: seed of all random draws.
        options: options of `generate`.
        system_prompt: an instruction before every question; None for the default of the chat template.
        attention: `sdpa` computes scores and patterns only where they are read or changed, `eager` in every layer.
        device: the kind of device that generates, where it is not the model's own.
    """

    model: Model
    benchmark: Benchmark
    samples: Sequence[Sample] = field(repr=False)
    data: str
    batch_size: int
    seed: int
    options: Mapping[str, Any]
    system_prompt: str | None = None
    attention: Literal["sdpa", "eager"] = "sdpa"
    device: str | None = None

    def batches(self) -> list[Sequence[Sample]]:
        """Return the samples batch by batch."""
        # Batches are fixed, not made from what is still missing: padding and batch size change the last bits of a log-probability, and a
        # resumed run must end with the same bytes as one that was never interrupted.
        return [self.samples[i : i + self.batch_size] for i in range(0, len(self.samples), self.batch_size)]

    def identity(self, method: Method | None) -> dict[str, Any]:
        """Return what the rows under a method depend on, as JSON data.

        Raises:
            TypeError: a setting has no JSON form.
        """
        return {
            **identity.model_identity(self.model),
            **({} if self.device is None else {"device": self.device}),
            "attention": self.attention,
            "benchmark": type(self.benchmark).__name__.lower(),
            "data": self.data,
            "samples": len(self.samples),
            "method": identity.method_identity(method),
            "options": identity.to_json(dict(self.options), "generate's options"),
            "system_prompt": self.system_prompt,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "versions": identity.package_versions(),
        }

    def manifest(self, method: Method | None) -> dict[str, Any]:
        """Return the identity of the run under a method, with names, settings, machine and date for readers."""
        return {
            "model": {"name": self.model.name, "revision": self.model.revision, "is": repr(self.model)},
            "benchmark": identity.benchmark_identity(self.benchmark),
            "method": identity.name_method(method),
            "settings": identity.describe_settings(method),
            "identity": self.identity(method),
            "machine": identity.describe_machine(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def build_spec(
    model: Model,
    benchmark: Benchmark,
    *,
    batch_size: int = 16,
    limit: int | None = None,
    seed: int = 0,
    system_prompt: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> RunSpec:
    """Return the spec of the runs of a benchmark on a model.

    Raises:
        ValueError: a limit or batch size below 1, a benchmark without samples, or several samples with the same id.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch_size and limit are at least 1, got {batch_size} and {limit}")
    every = benchmark.samples()
    samples = every if limit is None else limit_samples(every, limit)
    if not samples:
        raise ValueError(f"{benchmark} has no sample")
    repeated = [name for name, count in Counter(s.id for s in samples).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{benchmark} has several samples with the same id: {', '.join(repeated[:5])}; ids must be unique"
        )
    wanted = {"max_new_tokens": benchmark.longest, **(options or {})}
    data = identity.hash_samples(benchmark, samples)
    return RunSpec(model, benchmark, samples, data, batch_size, seed, wanted, system_prompt)


def limit_samples(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """Return at most `limit` samples in their order: whole groups, from each part in turn, the first groups first.

    Where the very first group is larger than the limit, its first samples are returned.
    """
    by_part: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        by_part.setdefault(sample.part, {}).setdefault(sample.group or sample.id, []).append(sample)
    rounds = zip_longest(*(groups.values() for groups in by_part.values()))
    kept: list[Sample] = []
    for group in (g for one in rounds for g in one if g is not None):
        if len(kept) + len(group) > limit:
            kept = kept or group[:limit]
            break
        kept += group
    ids = {s.id for s in kept}
    return [s for s in samples if s.id in ids]


def build_prompt(spec: RunSpec, sample: Sample) -> Prompt:
    """Return the prompt of a sample.

    Raises:
        ValueError: the prompt leaves no room for a reply in the context.
    """
    picture = spec.benchmark.image(sample)
    prompt = spec.model.prepare(picture, sample.question, system_prompt=spec.system_prompt)
    room, new = spec.model.context, spec.options["max_new_tokens"]
    if room is not None and len(prompt) + new > room:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens and the reply may have {new}, but the context holds {room}"
        )
    return prompt


def refuse_unfit_run(spec: RunSpec, method: Method | None) -> None:
    """Refuse a run under a method that cannot work, before anything is generated.

    Raises:
        ValueError: the method does not fit the model or the options, or several replies per sample are requested.
        TypeError: a setting has no JSON form.
    """
    spec.identity(method)
    several = spec.options.get("num_return_sequences") or 1
    if several != 1:
        raise ValueError(f"a run keeps one reply per sample; leave out num_return_sequences={several}")
    for one in [] if method is None else parts(method):
        reason = one.refusal(spec.model)
        if reason:
            raise ValueError(f"{one} does not fit {spec.model.name}: {reason}")
    refuse_unfit([] if method is None else [method], spec.options)
