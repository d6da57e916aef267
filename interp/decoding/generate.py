"""`generate`: replies under any interventions, with Hugging Face's own decoding."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final, overload

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from interp.arguments import check_settings, expect_model, list_interventions, list_prompts
from interp.data.prompt import Prompt, Reply
from interp.interventions.base import Intervention
from interp.interventions.method import Method, refuse_unfit, resolve
from interp.models.model import Model
from interp.taps.running import run_pass

RESERVED = ("output_logits", "return_dict_in_generate", "streamer", "logits_processor", "generator")


@overload
def generate(model: Model, prompts: Prompt, *interventions: Any, **options: Any) -> Reply: ...
@overload
def generate(model: Model, prompts: Sequence[Prompt], *interventions: Any, **options: Any) -> list[Reply]: ...
def generate(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    *interventions: Intervention | Method | LogitsProcessor | str,
    max_new_tokens: int = 128,
    seed: int | None = None,
    on_token: Callable[[str], None] | None = None,
    **options: Any,
) -> Reply | list[Reply]:
    """Return the model's reply to a prompt, or its replies to several in one batch.

    Args:
        model: the model.
        prompts: one prompt or several; several are padded on the left and decoded together.
        interventions: interventions, methods and Hugging Face logits processors, in the order they apply.
        max_new_tokens: the largest number of new tokens.
        seed: seed for sampling.
        on_token: called with the text of every new token as it is generated (one prompt, no beams).
        options: any option of Hugging Face's `generate`: `do_sample`, `temperature`, `top_p`, `num_beams`, `stop_strings`, ...

    Raises:
        ValueError: no prompt, a prompt that leaves no room in the context, or options that this function sets itself.
        TypeError: an argument that is neither an intervention nor a logits processor.
    """
    expect_model(model)
    check_settings(max_new_tokens=max_new_tokens, seed=seed, on_token=on_token)
    single = isinstance(prompts, Prompt)
    batch = list_prompts(prompts)
    interventions = list_interventions(interventions, rules=True)
    _check(model, batch, max_new_tokens, on_token, options)
    refuse_unfit(interventions, options)
    resolved = resolve(model, batch, interventions)
    if resolved.loop is not None:
        options |= {"max_new_tokens": max_new_tokens, "seed": seed}
        if not single:
            return [generate(model, p, *interventions, on_token=on_token, **options) for p in batch]
        return resolved.loop.decode(
            model, resolved.prompts[0], resolved.interventions, resolved.rules, on_token=on_token, **options
        )
    batch = resolved.prompts
    inputs = model.inputs(batch)
    if "stop_strings" in options:
        options["tokenizer"] = model.tokenizer
    if on_token is not None:
        options["streamer"] = _Callback(lambda i: on_token(model.tokenizer.decode([i])))
    sampling = {"do_sample": False} if "do_sample" not in options else {}
    now = model.running(batch, resolved.interventions, new=max_new_tokens)
    with torch.no_grad(), torch.random.fork_rng(enabled=seed is not None), run_pass(now):
        if seed is not None:
            torch.manual_seed(seed)
        out = model.module.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList(resolved.rules),
            output_logits=True,
            return_dict_in_generate=True,
            **sampling,
            **options,
        )
        scores = model.module.compute_transition_scores(
            out.sequences, out.logits, getattr(out, "beam_indices", None), normalize_logits=True
        )
    replies = _replies(model, batch, out.sequences[:, -scores.shape[1] :], scores, now.audit, max_new_tokens)
    return replies[0] if single and len(replies) == 1 else replies


@final
class _Callback(BaseStreamer):
    """Hands every new token to a function; the prompt comes first and is skipped."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token, self._prompt_seen = on_token, False

    def put(self, value: Tensor) -> None:
        if self._prompt_seen:
            for i in value.flatten().tolist():
                self._on_token(i)
        self._prompt_seen = True

    def end(self) -> None:
        self._prompt_seen = False


def _check(model: Model, prompts: list[Prompt], new: int, on_token: Any, options: dict[str, Any]) -> None:
    if not prompts:
        raise ValueError("generate needs at least one prompt")
    if new < 1:
        raise ValueError(f"max_new_tokens is at least 1, got {new}")
    taken = sorted(set(options) & set(RESERVED))
    if taken:
        raise ValueError(
            f"generate sets {', '.join(taken)} itself; pass logits processors as interventions, and on_token for streaming"
        )
    if on_token is not None and (len(prompts) > 1 or options.get("num_beams", 1) > 1):
        raise ValueError("on_token streams one prompt without beams; leave it out for a batch or for beam search")
    longest = max(map(len, prompts))
    if model.context is not None and longest + new > model.context:
        raise ValueError(
            f"the prompt has {longest} tokens and {new} new ones are requested, but the context of {model.name} holds {model.context}; "
            f"ask for at most {model.context - longest} (max_new_tokens)"
        )


def _replies(
    model: Model, prompts: list[Prompt], new: Tensor, scores: Tensor, audit: Sequence[Any], limit: int
) -> list[Reply]:
    ends = end_tokens(model)
    each = len(new) // len(prompts)
    return [
        build_reply(model, prompts[i // each], ids.tolist(), s.tolist(), ends, audit, limit)
        for i, (ids, s) in enumerate(zip(new.cpu(), scores.float().cpu(), strict=True))
    ]


def end_tokens(model: Model) -> set[int]:
    """Return the ids of the tokens that end a reply."""
    ends = model.module.generation_config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


def build_reply(
    model: Model,
    prompt: Prompt,
    ids: list[int],
    scores: list[float],
    ends: set[int],
    audit: Sequence[Any],
    limit: int,
) -> Reply:
    """Return new tokens and their log-probabilities as a reply, up to where it ended.

    Args:
        model: the model.
        prompt: the prompt that they answer.
        ids: the new tokens, and padding after them.
        scores: their log-probabilities.
        ends: the tokens that end a reply.
        audit: the record of each intervention.
        limit: the requested largest number of new tokens.
    """
    pad = model.tokenizer.pad_token_id
    length = next((i + 1 for i, t in enumerate(ids) if t in ends), len(ids))
    ended = length > 0 and ids[length - 1] in ends
    if not ended and length < limit:  # stopped by a string; the rest is padding up to the longest reply of the batch
        while length and ids[length - 1] == pad:
            length -= 1
    stop: Literal["end", "length", "stop_string"] = "end" if ended else "length" if length >= limit else "stop_string"
    text = model.tokenizer.decode(ids[:length], skip_special_tokens=True).strip()
    return Reply(
        text,
        tuple(model.tokenizer.decode([i]) for i in ids[:length]),
        tuple(ids[:length]),
        tuple(scores[:length]),
        stop,
        prompt,
        audit,
    )
