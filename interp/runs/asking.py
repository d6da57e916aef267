"""Asking a model the samples of a benchmark, batch by batch, so that what is answered stays answered."""

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, final

import torch

from interp.bench.base import Benchmark, Reading, Sample, compute_scores
from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.interventions.method import Method, parts, refuse_unfit
from interp.models.model import Model
from interp.runs import identity
from interp.runs.directory import Run, started
from interp.runs.row import Cost, Row, failed, row_of
from interp.taps.install import tap_path

OFTEN = 1.0
"""Seconds between two looks at the running score."""

Batches = Generator[tuple[list[Row], Cost], None, None]
"""The rows of batch after batch, and what each cost."""

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class Questioning:
    """What is asked of a model, and how; everything that its rows depend on.

    Args:
        model: the model.
        benchmark: where the samples come from.
        samples: those that are asked.
        data: their hash, images included.
        batch_size: how many are asked together.
        seed: of everything that is drawn.
        options: those of `generate`.
        system_prompt: the instruction before every question; the chat template's own by default.
        attention: `explicit` computes every score and pattern, `sdpa` only those that something looks at.
        device: the kind of device that computes, where that is not the model's.
    """

    model: Model
    benchmark: Benchmark
    samples: Sequence[Sample] = field(repr=False)
    data: str
    batch_size: int
    seed: int
    options: Mapping[str, Any]
    system_prompt: str | None = None
    attention: Literal["sdpa", "explicit"] = "sdpa"
    device: str | None = None

    def batches(self) -> list[Sequence[Sample]]:
        """Return the samples batch by batch: always the same ones together."""
        return [self.samples[i : i + self.batch_size] for i in range(0, len(self.samples), self.batch_size)]

    def identity(self, method: Method | None) -> dict[str, Any]:
        """Return what the rows under a method depend on.

        Raises:
            TypeError: a setting that cannot be written down.
        """
        return {
            **identity.model_identity(self.model),
            **({} if self.device is None else {"device": self.device}),
            "attention": self.attention,
            "benchmark": type(self.benchmark).__name__.lower(),
            "data": self.data,
            "samples": len(self.samples),
            "method": identity.method_identity(method),
            "options": identity.plain(dict(self.options), "generate's options"),
            "system_prompt": self.system_prompt,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "versions": identity.versions(),
        }

    def manifest(self, method: Method | None) -> dict[str, Any]:
        """Return everything that is known about the run under a method."""
        return {
            "model": {"name": self.model.name, "revision": self.model.revision, "is": repr(self.model)},
            "benchmark": identity.benchmark_identity(self.benchmark),
            "method": identity.method_name(method),
            "settings": identity.method_words(method),
            "identity": self.identity(method),
            "machine": identity.machine(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def here(what: Questioning, method: Method | None, first: int, begun: bool) -> Batches:
    """Return the rows of every batch from one on and what they cost, made by this process.

    Args:
        what: the questions.
        method: the method; None for the model as it is.
        first: which batch comes first.
        begun: whether there are replies already: the first of all may fail for a reason that is no sample's own.

    Raises:
        ValueError: not one sample of the run has a reply, all of them for one reason.
        MemoryError: a batch does not fit on the GPU.
    """
    for index, samples in list(enumerate(what.batches()))[first:]:
        rows, cost = answered(what, method, index, samples, begun=begun)
        begun = begun or any(not r.error for r in rows)
        yield rows, cost


Answers = Callable[[Questioning, Method | None, int, bool], Batches]
"""Who answers: this process (`here`), or others for it."""


def ask(
    what: Questioning,
    method: Method | None,
    folder: str | Path = "runs",
    *,
    resume: bool = True,
    progress: bool = False,
    strict: bool = False,
    answers: Answers = here,
) -> Run:
    """Ask what has no row yet under a method, and return the run, complete.

    Args:
        what: the questions.
        method: the method; None for the model as it is.
        folder: where run directories are.
        resume: keep the rows that are there; otherwise begin again.
        progress: whether to show a bar with the running score.
        strict: stop at a sample that cannot be asked; otherwise its row says why, and the run goes on.
        answers: who answers.

    Raises:
        ValueError: a method that does not fit the model or the options, a directory of another run, a sample that cannot be
            asked when `strict`, or no sample that can be answered.
        OSError: the disk is full; what is there stays whole, and the same call goes on.
        MemoryError: a batch does not fit on the GPU.
    """
    refuse(what, method)
    manifest = what.manifest(method)
    name = identity.directory_name(
        what.model.name, manifest["identity"]["benchmark"], manifest["method"], manifest["identity"]
    )
    run = started(folder, name, manifest)
    with run.held():
        if not resume:
            run.clear()
        rows = run.recover()
        _stop_at_failed(rows, strict)
        left = answers(what, method, -(-len(rows) // what.batch_size), any(not r.error for r in rows))
        with _bar(what, rows, manifest["method"], shown=progress and len(rows) < run.samples) as tell, closing(left):
            try:
                for new, cost in left:
                    _stop_at_failed(new, strict)
                    run.append(new, cost)
                    rows += new
                    tell(new)
            except KeyboardInterrupt:
                log.warning(
                    "%s of %s samples are in %s; the same call goes on from there", len(rows), run.samples, run.path
                )
                raise
    return run


def refuse(what: Questioning, method: Method | None) -> None:
    """Refuse what cannot be asked under a method, before anything runs.

    Raises:
        ValueError: the method does not fit the model or the options, or several replies a sample are asked for.
        TypeError: a setting that cannot be written down.
    """
    what.identity(method)
    several = what.options.get("num_return_sequences") or 1
    if several != 1:
        raise ValueError(f"a run keeps one reply a sample; leave num_return_sequences={several} out")
    for one in [] if method is None else parts(method):
        reason = one.refusal(what.model)
        if reason:
            raise ValueError(f"{one} does not fit {what.model.name}: {reason}")
    refuse_unfit([] if method is None else [method], what.options)


def _stop_at_failed(rows: Sequence[Row], strict: bool) -> None:
    bad = next((r for r in rows if r.error), None)
    if strict and bad is not None:
        raise ValueError(f"sample {bad.id} cannot be asked: {bad.error}. Without strict the run goes on without it")


def answered(
    what: Questioning, method: Method | None, index: int, samples: Sequence[Sample], *, begun: bool
) -> tuple[list[Row], Cost]:
    """Return the rows of one batch, in the order of its samples, and what it cost; `begun` when there are replies already."""
    prompts: dict[int, Prompt] = {}
    rows: dict[int, Row] = {}
    for place, sample in enumerate(samples):
        try:
            prompts[place] = prompted(what, sample)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever an image or a text does is told in its row
            rows[place] = failed(sample, error)
    gpu = what.model.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(what.model.device)
    before = time.perf_counter()
    with _attention(what.model, what.attention):
        replies = _replies(what, method, list(prompts.values()), _seed(what.seed, index), begun=begun)
    seconds = time.perf_counter() - before
    for place, reply in zip(prompts, replies, strict=True):
        sample = samples[place]
        rows[place] = row_of(sample, reply) if isinstance(reply, Reply) else failed(sample, reply)
    given = [r for r in replies if isinstance(r, Reply)]
    cost = Cost(index, len(given), sum(len(r.ids) for r in given), seconds, _memory(what.model))
    return [rows[place] for place in range(len(samples))], cost


def prompted(what: Questioning, sample: Sample) -> Prompt:
    """Return the prompt of a sample.

    Raises:
        ValueError: it leaves no room for a reply.
    """
    picture = what.benchmark.image(sample)
    prompt = what.model.prepare(picture, sample.question, system_prompt=what.system_prompt)
    room, new = what.model.context, what.options["max_new_tokens"]
    if room is not None and len(prompt) + new > room:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens and the reply may have {new}, but the context holds {room}"
        )
    return prompt


def _replies(
    what: Questioning, method: Method | None, prompts: list[Prompt], seed: int, *, begun: bool
) -> Sequence[Reply | ValueError]:
    """Return a reply to each prompt; where one of them makes the batch fail, each is asked alone, and those that fail say why.

    Raises:
        ValueError: not one prompt of the run has a reply, all of them for one reason: it is not theirs.
        MemoryError: the batch does not fit on the GPU.
    """
    interventions = [] if method is None else [method]
    try:
        return generate(what.model, prompts, *interventions, seed=seed, **what.options) if prompts else []
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{len(prompts)} samples at once do not fit on the GPU; a batch_size below {what.batch_size} may. ({error})"
        ) from error
    except ValueError as error:
        told = error
    alone = [_alone(what, interventions, p, seed) for p in prompts] if len(prompts) > 1 else [told]
    if not begun and all(isinstance(a, ValueError) for a in alone) and len({str(a) for a in alone}) == 1:
        raise told
    return alone


def _alone(what: Questioning, interventions: Sequence[Method], prompt: Prompt, seed: int) -> Reply | ValueError:
    try:
        return generate(what.model, prompt, *interventions, seed=seed, **what.options)
    except ValueError as error:
        return error


def _seed(seed: int, batch: int) -> int:
    """Return the seed of a batch, so that it draws the same whether or not others ran before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:4], "big")


def _memory(model: Model) -> int:
    if model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(model.device))
    import sys

    if sys.platform == "win32":  # which has no `resource`
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


@contextmanager
def _attention(model: Model, how: str) -> Iterator[None]:
    """While open, every layer of the decoder computes scores and pattern one by one, as eager attention does, where that is asked."""
    if how == "sdpa":
        yield
        return
    taps = [model.module.get_submodule(tap_path(model.family, "pattern", layer)) for layer in range(model.layers)]
    before = [list(tap.fwd_hooks) for tap in taps]
    for tap in taps:
        tap.add_hook(_look)
    try:
        yield
    finally:
        for tap, theirs in zip(taps, before, strict=True):
            for own in [h for h in tap.fwd_hooks if h not in theirs]:
                own.hook.remove()
                tap.fwd_hooks.remove(own)


def _look(*_: Any, **__: Any) -> None:
    """Look at a pattern, and leave it as it is: what is looked at is computed."""


@contextmanager
def _bar(what: Questioning, rows: Sequence[Row], name: str, *, shown: bool) -> Iterator[Any]:
    """Show how far the run is, how long it will take, and the first score so far; what is yielded is called with new rows."""
    if not shown:
        yield lambda new: None
        return
    from tqdm import tqdm

    read = [(r.sample, what.benchmark.read(r.reply, r.sample)) for r in rows if not r.error]
    looked = 0.0
    with tqdm(total=len(what.samples), initial=len(rows), desc=name, unit="sample", dynamic_ncols=True) as bar:

        def tell(new: Sequence[Row]) -> None:
            nonlocal looked
            read.extend((r.sample, what.benchmark.read(r.reply, r.sample)) for r in new if not r.error)
            if time.monotonic() - looked > OFTEN:
                looked = time.monotonic()
                bar.set_postfix(_running_score(what.benchmark, read), refresh=False)
            bar.update(len(new))

        yield tell


def _running_score(benchmark: Benchmark, read: Sequence[tuple[Sample, Reading]]) -> dict[str, str]:
    if not read or not benchmark.headline:
        return {}
    first = benchmark.headline[0]
    return {first: f"{compute_scores(benchmark, read)['total'][first]:.3f}"}
