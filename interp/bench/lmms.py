"""`adapter`: an intervened model as a model of lmms-eval, whose replies are those of `generate`."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, final

from interp.decoding.generate import generate
from interp.models.model import Model

_OPTIONS: Final = ("max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_beams")
"""The options of an lmms-eval task that `generate` understands; `until` becomes stop strings, all others are for other models."""
_LONGEST: Final = 1024
_IMAGE_MARK: Final = "<image>"


def adapter(model: Model, *interventions: Any, batch_size: int = 1, **options: Any) -> Any:
    """Return a model for lmms-eval that answers with a model under interventions and methods.

    Pass it to `lmms_eval.evaluator.simple_evaluate(model=adapter(model, Vaf()), tasks=["pope"])`. It supports tasks that generate a reply
    to images and text; likelihoods, several rounds and videos are refused.

    Args:
        model: the model.
        interventions: interventions, methods and logits processors, as `generate` takes them.
        batch_size: how many questions with the same options are answered together.
        options: options of `generate`; they override those of a task.

    Raises:
        ModuleNotFoundError: lmms-eval is not installed.
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}")
    base = _base()

    @final
    class Intervened(base):  # type: ignore[misc, valid-type]  # only lmms-eval's own classes are models to it
        """A model for lmms-eval."""

        def __init__(self) -> None:
            base.__init__(self)
            self.model, self.interventions, self.batch_size = model, interventions, batch_size

        @property
        def device(self) -> Any:
            return model.device

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """Return a reply to every request, in order."""
            replies: list[str] = []
            for batch in _batches([r.args for r in requests], batch_size):
                replies += _answers(self, batch, options)
            return replies

        def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
            """Refuse."""
            raise NotImplementedError(
                "this adapter answers single questions; tasks with several rounds need another model"
            )

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Refuse."""
            raise NotImplementedError("this adapter generates; choose the generating variant of the task")

    return Intervened()


def _base() -> Any:
    try:
        return importlib.import_module("lmms_eval.api.model").lmms
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'lmms-eval cannot be imported ({error}): pip install "interp[lmms]"') from error


def _batches(requests: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yield batches of neighbouring requests with the same options, at most `size` each."""
    for _, same in groupby(requests, key=lambda r: repr(sorted(r[1].items()))):
        together = list(same)
        yield from (together[i : i + size] for i in range(0, len(together), size))


def _answers(lm: Any, batch: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
    prompts = [_prompt(lm, *r) for r in batch]
    asked = generate_options(batch[0][1])
    until = asked.pop("stop_strings", [])
    stops = {"stop_strings": until} if until else {}
    replies = generate(lm.model, prompts, *lm.interventions, **{**asked, **stops, **options})
    texts = [_cut(r.text, until) for r in replies]
    for request, text in zip(batch, texts, strict=True):
        lm.cache_hook.add_partial("generate_until", (request[0], request[1]), text)
    return texts


def _prompt(lm: Any, context: str, asked: Mapping[str, Any], visuals: Any, at: Any, task: str, split: str) -> Any:
    images = [] if visuals is None else list(visuals(lm.task_dict[task][split][at]) or [])
    if any(isinstance(i, str) for i in images):
        raise ValueError(f"{task} passes videos or files by name ({images[0]!r}); this adapter takes images")
    return lm.model.prepare(images or None, context.replace(_IMAGE_MARK, "").strip())


def generate_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `generate` for a task; a temperature above 0 samples, 0 does not.

    Args:
        asked: the task's `generation_kwargs`.
    """
    found = {n: asked[n] for n in _OPTIONS if asked.get(n) is not None}
    sampled = found.get("do_sample", found.get("temperature", 0) > 0)
    found["do_sample"] = bool(sampled) and found.get("temperature", 1) > 0
    if not found["do_sample"]:
        found = {n: v for n, v in found.items() if n not in ("temperature", "top_p", "top_k")}
    until = asked.get("until") or []
    return {"max_new_tokens": _LONGEST, **found, "stop_strings": [until] if isinstance(until, str) else list(until)}


def _cut(text: str, until: Sequence[str]) -> str:
    """Return a text up to the first of the given strings."""
    return text[: min((text.find(u) for u in until if u in text), default=len(text))].strip()
