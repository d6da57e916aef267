"""Runs carried out: a model is asked the samples of a `RunSpec` batch by batch, and every finished batch is kept on disk.

`execute` is the entry: it opens the run directory, asks what is missing, and returns the complete run. Who generates the replies is an
argument: `answer_here` in this process, or the replicas of `interp.runs.shards`. `answer_batch` is the work that both share.
"""

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from interp.bench.base import Benchmark, Reading, Sample, compute_scores
from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.interventions.method import Method
from interp.models.model import Model
from interp.runs import identity
from interp.runs.directory import Run, open_or_start
from interp.runs.row import Cost, Row, build_failed_row, build_row
from interp.runs.spec import RunSpec, build_prompt, refuse_unfit_run
from interp.taps.install import tap_path

AnsweredBatches = Generator[tuple[list[Row], Cost], None, None]
"""The rows of one batch after the other, and the cost of each."""
Answerer = Callable[[RunSpec, Method | None, int, bool], AnsweredBatches]
"""Generates the replies of a run from one batch on: `answer_here`, or the replicas on a cluster."""

_REFRESH = 1.0
"""Seconds between two updates of the running score in the progress bar."""
_log = logging.getLogger(__name__)


def answer_here(spec: RunSpec, method: Method | None, first: int, begun: bool) -> AnsweredBatches:
    """Yield the rows of every batch from batch `first` on and their costs, generated in this process.

    Args:
        spec: the run.
        method: the method; None for the baseline.
        first: the first batch.
        begun: whether the run has replies already. Without any, an error that all samples of the first batch share is raised, because
            its cause is no single sample.

    Raises:
        ValueError: no sample of the run has a reply, and all failed for the same reason.
        MemoryError: a batch does not fit on the GPU.
    """
    for index, samples in list(enumerate(spec.batches()))[first:]:
        rows, cost = answer_batch(spec, method, index, samples, begun=begun)
        begun = begun or any(not r.error for r in rows)
        yield rows, cost


def execute(
    spec: RunSpec,
    method: Method | None,
    folder: str | Path = "runs",
    *,
    resume: bool = True,
    progress: bool = False,
    strict: bool = False,
    answerer: Answerer = answer_here,
) -> Run:
    """Ask every sample that has no row yet under a method, and return the complete run.

    Args:
        spec: the run.
        method: the method; None for the baseline.
        folder: the folder of the run directories.
        resume: keep existing rows; otherwise start over.
        progress: whether to show a progress bar with the running score.
        strict: stop at a sample that cannot be asked; otherwise its row records the reason and the run continues.
        answerer: generates the replies.

    Raises:
        ValueError: the method does not fit the model or the options, the directory holds another run, a sample cannot be asked and
            `strict` is set, or no sample can be answered.
        OSError: the disk is full; what was written stays whole, and the same call resumes the run.
        MemoryError: a batch does not fit on the GPU.
    """
    refuse_unfit_run(spec, method)
    manifest = spec.manifest(method)
    name = identity.name_directory(
        spec.model.name, manifest["identity"]["benchmark"], manifest["method"], manifest["identity"]
    )
    run = open_or_start(folder, name, manifest)
    # The lock comes before the rows are read: another process may be writing them, and what it writes is not asked again here.
    with run.lock():
        if not resume:
            run.clear()
        rows = run.recover()
        _stop_at_failed(rows, strict)
        batches = answerer(spec, method, -(-len(rows) // spec.batch_size), any(not r.error for r in rows))
        shown = progress and len(rows) < run.samples
        with _progress_bar(spec, rows, manifest["method"], shown=shown) as advance, closing(batches):
            try:
                for new, cost in batches:
                    _stop_at_failed(new, strict)
                    run.append(new, cost)
                    rows += new
                    advance(new)
            except KeyboardInterrupt:
                _log.warning(
                    "%s of %s samples are in %s; the same call resumes from there", len(rows), run.samples, run.path
                )
                raise
    return run


def _stop_at_failed(rows: Sequence[Row], strict: bool) -> None:
    bad = next((r for r in rows if r.error), None)
    if strict and bad is not None:
        raise ValueError(f"sample {bad.id} cannot be asked: {bad.error}. Without strict, the run continues without it")


def answer_batch(
    spec: RunSpec, method: Method | None, index: int, samples: Sequence[Sample], *, begun: bool
) -> tuple[list[Row], Cost]:
    """Return the rows of one batch, in the order of its samples, and its cost; `begun` when the run has replies already."""
    prompts: dict[int, Prompt] = {}
    rows: dict[int, Row] = {}
    for place, sample in enumerate(samples):
        try:
            prompts[place] = build_prompt(spec, sample)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # image libraries raise almost anything; the row records it
            rows[place] = build_failed_row(sample, error)
    gpu = spec.model.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(spec.model.device)
    before = time.perf_counter()
    with _attention(spec.model, spec.attention):
        replies = _replies(spec, method, list(prompts.values()), _batch_seed(spec.seed, index), begun=begun)
    seconds = time.perf_counter() - before
    for place, reply in zip(prompts, replies, strict=True):
        sample = samples[place]
        rows[place] = build_row(sample, reply) if isinstance(reply, Reply) else build_failed_row(sample, reply)
    given = [r for r in replies if isinstance(r, Reply)]
    cost = Cost(index, len(given), sum(len(r.ids) for r in given), seconds, _peak_memory(spec.model))
    return [rows[place] for place in range(len(samples))], cost


def _replies(
    spec: RunSpec, method: Method | None, prompts: list[Prompt], seed: int, *, begun: bool
) -> Sequence[Reply | ValueError]:
    """Return a reply to each prompt; where the batch fails, ask each prompt alone and return the error of those that fail again.

    Raises:
        ValueError: no prompt of the run has a reply, and all failed for the same reason.
        MemoryError: the batch does not fit on the GPU.
    """
    interventions = [] if method is None else [method]
    try:
        return generate(spec.model, prompts, *interventions, seed=seed, **spec.options) if prompts else []
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{len(prompts)} samples at once do not fit on the GPU; a batch_size below {spec.batch_size} may. ({error})"
        ) from error
    except ValueError as error:
        failure = error
    alone = [_reply_alone(spec, interventions, p, seed) for p in prompts] if len(prompts) > 1 else [failure]
    # A misspelt option fails every sample in the same way; recorded row by row, it would fill a whole run with errors.
    if not begun and all(isinstance(a, ValueError) for a in alone) and len({str(a) for a in alone}) == 1:
        raise failure
    return alone


def _reply_alone(spec: RunSpec, interventions: Sequence[Method], prompt: Prompt, seed: int) -> Reply | ValueError:
    try:
        return generate(spec.model, prompt, *interventions, seed=seed, **spec.options)
    except ValueError as error:
        return error


def _batch_seed(seed: int, batch: int) -> int:
    """Return the seed of a batch; it depends on no other batch, so that a resumed run draws the same replies."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:4], "big")


def _peak_memory(model: Model) -> int:
    """Return the peak memory in bytes: of tensors on the GPU, otherwise of the process; 0 on Windows, which does not report it."""
    if model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(model.device))
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


@contextmanager
def _attention(model: Model, how: str) -> Iterator[None]:
    """While open, every decoder layer computes its scores and pattern one by one, as eager attention does, if `how` is `eager`."""
    if how == "sdpa":
        yield
        return
    with ExitStack() as stack:
        for layer in range(model.layers):
            tap = model.module.get_submodule(tap_path(model.family, "pattern", layer))
            tap.attach()
            stack.callback(tap.detach)
        yield


@contextmanager
def _progress_bar(spec: RunSpec, rows: Sequence[Row], name: str, *, shown: bool) -> Iterator[Any]:
    """Show progress, remaining time and the running score; yield the function that is called with new rows."""
    if not shown:
        yield lambda new: None
        return
    from tqdm import tqdm

    read = [(r.sample, spec.benchmark.read(r.reply, r.sample)) for r in rows if not r.error]
    updated = 0.0
    with tqdm(total=len(spec.samples), initial=len(rows), desc=name, unit="sample", dynamic_ncols=True) as bar:

        def advance(new: Sequence[Row]) -> None:
            nonlocal updated
            read.extend((r.sample, spec.benchmark.read(r.reply, r.sample)) for r in new if not r.error)
            if time.monotonic() - updated > _REFRESH:
                updated = time.monotonic()
                bar.set_postfix(_running_score(spec.benchmark, read), refresh=False)
            bar.update(len(new))

        yield advance


def _running_score(benchmark: Benchmark, read: Sequence[tuple[Sample, Reading]]) -> dict[str, str]:
    if not read or not benchmark.headline:
        return {}
    first = benchmark.headline[0]
    return {first: f"{compute_scores(benchmark, read)['total'][first]:.3f}"}
