"""What a model must do before its numbers can be trusted: the checks behind `interp.testing.models.check_model`, one function each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from interp.checks.base import Check, run_checks
from interp.data.prompt import Prompt
from interp.data.sites import OTHER_PARTS, SCORE_SITES
from interp.data.tokens import EMITTING
from interp.decoding.generate import generate
from interp.interventions.attention import ScaleScores
from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.models.model import Model
from interp.passes.capture import capture
from interp.passes.target import Position
from interp.taps.install import IMPLEMENTATION
from interp.taps.running import run_pass, running


@contextmanager
def _attention(model: Model, implementation: str) -> Iterator[None]:
    """While open, the model runs transformers' own attention."""
    model.module.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.module.set_attn_implementation(IMPLEMENTATION)


def _logits(model: Model, prompts: Sequence[Prompt], *interventions: Intervention, look: bool = False) -> Tensor:
    """Return the logits of one forward pass, with every attention tap read or none."""
    parts = ("decoder", *OTHER_PARTS) if look else ()
    now = model.running(prompts, interventions, reads=frozenset((p, s) for p in parts for s in SCORE_SITES))
    with torch.no_grad(), run_pass(now):
        return model.module(**model.inputs(prompts), use_cache=False).logits


def _plain(model: Model, prompt: Prompt, implementation: str) -> Tensor:
    with _attention(model, implementation), torch.no_grad():
        return model.module(**model.inputs([prompt]), use_cache=False).logits


def logits_equal_eager(model: Model, prompts: Sequence[Prompt]) -> None:
    """With every tap read, the logits equal those of transformers' eager attention, bit for bit."""
    for prompt in prompts:
        assert_close(_logits(model, [prompt], look=True), _plain(model, prompt, "eager"), rtol=0, atol=0)


def fast_path_equals_sdpa(model: Model, prompts: Sequence[Prompt]) -> None:
    """With idle taps, the logits equal those of transformers' sdpa attention, bit for bit."""
    for prompt in prompts:
        assert_close(_logits(model, [prompt]), _plain(model, prompt, "sdpa"), rtol=0, atol=0)


def pattern_and_gradient(model: Model, prompts: Sequence[Prompt]) -> None:
    """Patterns sum to one and are causal, and they and their gradients equal those of plain eager attention and autograd."""
    prompt = prompts[0]
    target = Position(len(prompt), 1)
    got = capture(model, prompt, want={"pattern"}, grad={"pattern"}, target=target)
    patterns, gradients = _plain_gradients(model, prompt, target)
    assert_close(
        got.pattern.float().sum(-1),
        torch.ones(got.pattern.shape[:-1]),
        rtol=0,
        atol=2e-2 if model.dtype != torch.float32 else 1e-5,
    )
    _close(model, got.pattern, patterns, 1e-5)
    _close(model, got.pattern_grad, gradients, 1e-4 * max(1.0, float(gradients.abs().max())))


def _plain_gradients(model: Model, prompt: Prompt, target: Position) -> tuple[Tensor, Tensor]:
    """Return patterns and gradients without any tap: hooks on plain eager attention modules, and autograd."""
    seen: list[Tensor] = []
    attentions = [block.get_submodule(model.family.attention) for block in model.blocks]
    handles = [a.register_forward_hook(lambda _, __, out: seen.append(out[1])) for a in attentions]
    handles.append(
        model.module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    )
    try:
        with _attention(model, "eager"), torch.enable_grad():
            logits = model.module(**model.inputs([prompt]), use_cache=False).logits[0]
            loss = -logits[target.at - 1].float().log_softmax(-1)[target.token]
            gradients = torch.autograd.grad(loss, seen)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([p[0].detach() for p in seen]), torch.stack([g[0] for g in gradients])


def stream_adds_up(model: Model, prompts: Sequence[Prompt]) -> None:
    """Attention and MLP add exactly the values at their taps to the residual stream."""
    got = capture(
        model, prompts[0], want=set(model.sites) & {"resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"}
    )
    middle = got.resid_pre + got.attn_out
    if "resid_mid" in model.sites:
        _close(model, got.resid_mid, middle, 1e-4)
    _close(model, got.resid_post, middle + got.mlp_out, 1e-4)


def every_site_causal(model: Model, prompts: Sequence[Prompt]) -> None:
    """An intervention at every site of the first and the last layer, and of every other part's attention, changes the logits."""
    prompt = prompts[0]
    base = _logits(model, [prompt], look=True)
    dead = []
    for layer in sorted({0, model.layers - 1}):
        for site in model.sites:
            change = Apply(site, _strong(site), layers=None if site == "logits" else (layer,))
            moved = _logits(model, [prompt], change, look=True) - base
            if not float(moved[0, -1].abs().max()) > 0:
                dead.append(f"{site} of layer {layer}")
    for part in parts_of(model) if prompt.images else ():
        change = Apply("pattern", _strong("pattern"), part=part)
        if not float((_logits(model, [prompt], change, look=True) - base).abs().max()) > 0:
            dead.append(f"{part}.pattern")
    if dead:
        raise AssertionError(f"a change at {', '.join(dead)} leaves the logits as they were")


def _strong(site: str) -> Callable[[Tensor, Any], Tensor]:
    """Return an intervention that no later normalisation can undo."""
    if site in SCORE_SITES:
        return lambda value, here: value * 0.3
    return lambda value, here: (
        value * 0.5 + torch.linspace(-1, 1, value.shape[-1], dtype=value.dtype, device=value.device)
    )


def neutral_changes_nothing(model: Model, prompts: Sequence[Prompt]) -> None:
    """Interventions that copy the value at every site leave the logits unchanged, bit for bit."""
    import warnings

    copies = [Apply(site, lambda value, here: value.clone()) for site in model.sites]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_close(
            _logits(model, prompts[:1], *copies, look=True), _logits(model, prompts[:1], look=True), rtol=0, atol=0
        )


def _edit() -> ScaleScores:
    return ScaleScores(keys=1, by=3.0, queries=EMITTING, mode="abs")


def generation_under_edit(model: Model, prompts: Sequence[Prompt]) -> None:
    """An intervention acts on the first generated token and at every later step."""
    free, edited = (generate(model, prompts[0], *c, max_new_tokens=3, min_new_tokens=3) for c in ((), (_edit(),)))
    if free.logprobs[0] == edited.logprobs[0] and free.ids[0] == edited.ids[0]:
        raise AssertionError("the first generated token was not under the edit")
    calls = edited.audit[0].calls
    if calls != 3 * model.layers:
        raise AssertionError(f"the edit was called {calls} times in 3 steps of {model.layers} layers")


def cached_equals_uncached(model: Model, prompts: Sequence[Prompt]) -> None:
    """Cached decoding gives the probabilities of one teacher-forced pass, with and without an intervention on the emitting rows."""
    for interventions in ((), (_edit(),)):
        reply = generate(model, prompts[0], *interventions, max_new_tokens=4, min_new_tokens=4)
        whole = prompts[0].with_response(reply)
        logits = _logits(model, [whole], *interventions)[0].float().cpu()
        rows = torch.arange(len(prompts[0]) - 1, len(whole) - 1)
        forced = logits[rows].log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
        _close(model, forced, torch.tensor(reply.logprobs), 2e-4)


def batched_equals_single(model: Model, prompts: Sequence[Prompt]) -> None:
    """Prompts of different lengths in one left-padded batch give the same results as alone, with and without an intervention."""
    for interventions in ((), (_edit(),)):
        together = _logits(model, prompts, *interventions)
        for row, prompt in zip(together, prompts, strict=True):
            alone = _logits(model, [prompt], *interventions)[0]
            _close(model, row[-len(prompt) :][-1].float(), alone[-1].float(), 2e-4)


def left_as_found(model: Model, prompts: Sequence[Prompt]) -> None:
    """A pass that fails halfway leaves nothing behind: logits, hooks and the gradients of weights are as before."""

    def fail(value: Tensor, here: Any) -> Tensor:
        raise ArithmeticError("on purpose")

    before, hooks = _logits(model, prompts[:1]), _hooks(model)
    capture(model, prompts[0], want={"resid_post"}, grad={"pattern"}, target=Position(len(prompts[0]), 1))
    with suppress(ArithmeticError):
        _logits(model, prompts[:1], Apply("pattern", fail))
    assert_close(_logits(model, prompts[:1]), before, rtol=0, atol=0)
    if (
        _hooks(model) != hooks
        or running.get() is not None
        or any(p.requires_grad or p.grad is not None for p in model.module.parameters())
    ):
        raise AssertionError("hooks, a running pass or gradients were left on the model")


def _hooks(model: Model) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.module.modules()
    )


def parts_of(model: Model) -> tuple[str, ...]:
    """Return the parts beside the decoder that have attention of their own."""
    found = {
        m.taps.part
        for m in model.module.modules()
        if "taps" in dict(m.named_children()) and "pattern" in dict(m.taps.named_children())
    }
    return tuple(p for p in OTHER_PARTS if p in found)


def _close(model: Model, got: Tensor, expected: Tensor, atol: float) -> None:
    rtol, atol = (1e-4, atol) if model.dtype == torch.float32 else (5e-2, 0.15)
    assert_close(got, expected, rtol=rtol, atol=atol)


CHECKS: dict[str, Callable[[Model, Sequence[Prompt]], None]] = {
    "logits = eager": logits_equal_eager,
    "fast path = sdpa": fast_path_equals_sdpa,
    "pattern, gradient": pattern_and_gradient,
    "stream adds up": stream_adds_up,
    "every site causal": every_site_causal,
    "neutral": neutral_changes_nothing,
    "generation": generation_under_edit,
    "cached = uncached": cached_equals_uncached,
    "batch = single": batched_equals_single,
    "left as found": left_as_found,
}
"""Every check by the name it has in the table."""


def check(model: Model, prompts: Sequence[Prompt]) -> list[Check]:
    """Run every check; the detail of a failed check gives the reason."""
    return run_checks(CHECKS, model, prompts)


def check_discovered(model: Model) -> tuple[str, ...]:
    """Check a model whose parts were discovered, before it is used.

    Raises:
        ValueError: the taps do not fit, with the reason.
    """
    prompts = [model.prepare(text=t) for t in ("What is this?", "What is there to be seen here?")]
    needed = ("logits = eager", "pattern, gradient", "stream adds up", "every site causal", "left as found")
    failed = [c for c in check(model, prompts) if not c.passed and c.name in needed]
    if failed:
        reasons = "; ".join(f"{c.name}: {c.detail.splitlines()[0]}" for c in failed)
        raise ValueError(
            f"the taps do not fit {model.name} ({model.config.model_type}): {reasons}. "
            f"Add interp/families/{model.config.model_type}.py if its parts were misread"
        )
    where = f"{model.family.decoder}.{model.family.layers}"
    return (f"{model.config.model_type} has no family file; its parts were discovered and checked: {where}",)
