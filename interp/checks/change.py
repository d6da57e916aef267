"""What an intervention must do before its effects can be trusted: the checks behind `check_intervention` and `check_method`.

One function per property; its docstring states the property. `EDITS` are the checks of interventions, `DECODING` those of decoding.
"""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.testing import assert_close

from interp.checks.base import Check, run_checks
from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.interventions.method import Method
from interp.models.model import Model
from interp.passes.capture import capture
from interp.taps.audit import NothingChanged
from interp.taps.running import run_pass, running


@final
@dataclass(frozen=True)
class Trial:
    """An intervention or method under test, with the interventions it consists of on some prompts.

    Args:
        model: the model.
        prompts: prompts of different lengths, with the marks it needs.
        change: the intervention or method, strong enough to matter.
        neutral: the same in a setting that changes nothing; None if it has none.
        strong: the interventions of `change`.
        idle: those of `neutral`.
        first: whether it already acts on the first generated token.
    """

    model: Model
    prompts: tuple[Prompt, ...]
    change: Intervention | Method
    neutral: Intervention | Method | None
    strong: tuple[Intervention, ...]
    idle: tuple[Intervention, ...]
    first: bool

    @property
    def answered(self) -> list[Prompt]:
        """The prompts with replies of different lengths, without image placeholders in them."""
        plain = {"suppress_tokens": _special(self.model)}
        replies = [
            generate(self.model, p, max_new_tokens=n, min_new_tokens=n, **plain)
            for p, n in zip(self.prompts, (5, 3), strict=False)
        ]
        return [p.with_response(r) for p, r in zip(self.prompts, replies, strict=False)]

    def logits(self, prompts: Sequence[Prompt], interventions: Sequence[Intervention]) -> Tensor:
        """Return the logits (batch, token, vocab) of one pass under some interventions."""
        with torch.no_grad(), run_pass(self.model.running(prompts, interventions)):
            return self.model.module(**self.model.inputs(prompts), use_cache=False).logits

    def replies(self, change: Any, prompts: Sequence[Prompt], new: int = 5) -> list[Reply]:
        """Return replies of a fixed length, decoded together."""
        interventions = [] if change is None else [change]
        return generate(self.model, list(prompts), *interventions, max_new_tokens=new, min_new_tokens=new, seed=0)


def check_trial(trial: Trial) -> list[Check]:
    """Run every check; one that fails says why."""
    checkers = {**EDITS, **DECODING} if trial.strong else DECODING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)
        return run_checks(checkers, trial)


def neutral_is_bit_equal(trial: Trial) -> None:
    """The neutral setting gives the logits of the same path without the edit, bit for bit."""
    if not trial.idle:
        return
    answered = trial.answered
    same = [_observer(c, trial.model) for c in trial.idle]
    assert_close(trial.logits(answered, trial.idle), trial.logits(answered, same), rtol=0, atol=0)


def _special(model: Model) -> list[int]:
    """Return the special tokens and image placeholders, which a made-up reply must not contain."""
    names = [n for n in vars(model.config) if n.endswith(("_token_id", "_token_index"))]
    placeholders = [i for i in (getattr(model.config, n) for n in names) if isinstance(i, int)]
    return sorted({*model.tokenizer.all_special_ids, *placeholders})


def _observer(change: Intervention, model: Model) -> Apply:
    """Return an intervention that acts at the same sites as another and changes nothing, so that both take the same path."""
    layers = range(model.layers if change.part == "decoder" else 1000)
    seen = [i for i in layers if change.acts_at(change.part, change.site, i)]
    return Apply(change.site, lambda value, here: value, seen, change.queries, change.part)


def strong_changes_logits(trial: Trial) -> None:
    """A strong setting changes the logits."""
    answered = trial.answered[:1]
    # against the same path without the edit: eager attention alone differs from sdpa by rounding, which is no effect
    same = [_observer(c, trial.model) for c in trial.strong]
    difference = trial.logits(answered, trial.strong) - trial.logits(answered, same)
    moved = difference.abs()[:, len(trial.prompts[0]) - 1 :].max()
    if not float(moved) > 0:
        raise AssertionError(f"{trial.change} does not change the logits")


def nothing_to_the_future(trial: Trial) -> None:
    """No row attends to later tokens, and a token does not affect earlier rows."""
    prompt = trial.answered[0]
    pattern = capture(trial.model, prompt, want={"pattern"}, interventions=trial.strong).pattern
    if float(pattern.triu(1).abs().max()) > 0:
        raise AssertionError(f"{trial.change} lets rows attend to the future")
    shorter = prompt.with_response(prompt.response_ids[:-1])
    longer = trial.logits([prompt], trial.strong)[:, :-1]
    _close(trial.model, longer, trial.logits([shorter], trial.strong), 2e-4)


def edit_batched_equals_single(trial: Trial) -> None:
    """Conversations of different lengths in one left-padded batch give the logits of each alone."""
    answered = trial.answered
    for row, prompt in zip(trial.logits(answered, trial.strong), answered, strict=True):
        alone = trial.logits([prompt], trial.strong)[0]
        _close(trial.model, row[-len(prompt) :].float(), alone.float(), 5e-4)


def edit_cached_equals_uncached(trial: Trial) -> None:
    """Cached decoding gives the probabilities of one teacher-forced pass over the same reply."""
    plain = {"suppress_tokens": _special(trial.model)}
    reply = generate(trial.model, trial.prompts[0], *trial.strong, max_new_tokens=5, min_new_tokens=5, **plain)
    whole = trial.prompts[0].with_response(reply)
    rows = torch.arange(len(trial.prompts[0]) - 1, len(whole) - 1)
    forced = trial.logits([whole], trial.strong)[0].float().cpu()[rows].log_softmax(-1)
    _close(trial.model, forced.gather(-1, torch.tensor(reply.ids)[:, None])[:, 0], torch.tensor(reply.logprobs), 2e-4)


def first_token_under_it(trial: Trial) -> None:
    """The intervention acts on the first generated token, or before the sixth if it needs a reply to act on."""
    prompts = trial.prompts[:1]
    (free,), (changed,) = trial.replies(None, prompts, 6), trial.replies(trial.change, prompts, 6)
    if trial.first and (free.ids[0], free.logprobs[0]) == (changed.ids[0], changed.logprobs[0]):
        raise AssertionError(f"the first generated token was not affected by {trial.change}")
    if (free.ids, free.logprobs) == (changed.ids, changed.logprobs):
        raise AssertionError(f"{trial.change} changes nothing in decoding")


def decoded_together_or_alone(trial: Trial) -> None:
    """Replies decoded in one batch equal those decoded one at a time."""
    together = trial.replies(trial.change, trial.prompts)
    for reply, prompt in zip(together, trial.prompts, strict=True):
        (alone,) = trial.replies(trial.change, [prompt])
        if reply.ids != alone.ids:
            raise AssertionError(f"in a batch the reply is {reply.ids}, alone it is {alone.ids}")
        _close(trial.model, torch.tensor(reply.logprobs), torch.tensor(alone.logprobs), 5e-4)


def neutral_decodes_as_usual(trial: Trial) -> None:
    """The neutral setting decodes the reply of the baseline."""
    if trial.neutral is not None:
        (free,), (idle,) = (trial.replies(c, trial.prompts[:1]) for c in (None, trial.neutral))
        if free.ids != idle.ids:
            raise AssertionError(f"{trial.neutral} decodes {idle.ids}, the model alone {free.ids}")
        _close(trial.model, torch.tensor(free.logprobs), torch.tensor(idle.logprobs), 2e-4)


def nothing_stays(trial: Trial) -> None:
    """Nothing stays on the model, also after an exception in the middle of a pass or of decoding."""

    def fail(value: Tensor, here: Any) -> Tensor:
        raise ArithmeticError("on purpose")

    before, state = trial.logits(trial.prompts[:1], ()), _state(trial.model)
    for breaking in ([], [Apply("logits", fail)], [Apply("logits", lambda v, h: fail(v, h) if h.step == 2 else v)]):
        with contextlib.suppress(ArithmeticError):
            generate(trial.model, trial.prompts[0], trial.change, *breaking, max_new_tokens=4, min_new_tokens=4)
    assert_close(trial.logits(trial.prompts[:1], ()), before, rtol=0, atol=0)
    if _state(trial.model) != state or running.get() is not None:
        raise AssertionError(f"{trial.change} left something on the model")


def _state(model: Model) -> tuple[Any, ...]:
    modules = list(model.module.modules())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)
    graded = any(p.requires_grad or p.grad is not None for p in model.module.parameters())
    return hooks, graded, torch.is_grad_enabled(), [sorted(vars(m)) for m in modules]


EDITS: dict[str, Callable[[Trial], None]] = {
    "neutral": neutral_is_bit_equal,
    "strong": strong_changes_logits,
    "causal": nothing_to_the_future,
    "batch = single": edit_batched_equals_single,
    "cached = uncached": edit_cached_equals_uncached,
}
"""The checks of every intervention, by name."""
DECODING: dict[str, Callable[[Trial], None]] = {
    "first token": first_token_under_it,
    "decoded together": decoded_together_or_alone,
    "neutral decoding": neutral_decodes_as_usual,
    "left as found": nothing_stays,
}
"""The checks of decoding, for interventions and methods, by name."""


def _close(model: Model, got: Tensor, expected: Tensor, atol: float) -> None:
    rtol, atol = (1e-4, atol) if model.dtype == torch.float32 else (5e-2, 0.15)
    assert_close(got, expected, rtol=rtol, atol=atol)
