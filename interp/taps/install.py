"""Gives a model its taps, once.

Every attention module and every decoder layer gets tap modules: TransformerLens `HookPoint`s under TransformerLens' names, seen by
nnsight as modules, which apply what the running pass says. `install` is the function; the rest are the hooks that tell the running pass
how many tokens a call has, and that let a call bring its own pass.
"""

import inspect
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from interp.data.sites import INSIDE_ATTENTION
from interp.families.base import Family
from interp.taps.attention import attention
from interp.taps.points import AttentionTaps, StreamTaps, Tap
from interp.taps.residual import bind, tap_output
from interp.taps.running import Pass, running

IMPLEMENTATION = "interp"
RUNNING = "running_pass"
"""A keyword of the tapped model's call: the pass to make the running one for the length of that call."""


def _count_tokens(decoder: nn.Module) -> None:
    """Tell the running pass, before the decoder runs, how many tokens are cached and how many are new; a clean run comes before it."""
    signature = inspect.signature(decoder.forward)

    def before(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        now = running.get()
        if now is None:
            return None
        given = kwargs
        if args:
            given = signature.bind_partial(*args, **kwargs).arguments
            given = {**given, **given.pop("kwargs", {})}
        ids: Tensor = given["input_ids"] if given.get("inputs_embeds") is None else given["inputs_embeds"]
        cache = given.get("past_key_values")
        now.advance(ids.shape[0], 0 if cache is None else int(cache.get_seq_length()), ids.shape[1], ids.device)
        # The module and not `decoder`: a copied model has this hook too.
        instead = None if now.clean is None else now.clean.prepare(module, given)
        return None if instead is None else ((), instead)

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        now = running.get()
        if now is not None and now.clean is not None:
            now.clean.release(output)

    decoder.register_forward_pre_hook(before, with_kwargs=True)
    decoder.register_forward_hook(after)


def _take_pass(model: nn.Module) -> None:
    """Let a call of the model bring its own running pass, which ends with the call."""
    opened: list[tuple[Pass, Any, ExitStack]] = []

    def before(_: nn.Module, args: tuple, kwargs: dict) -> Any:
        if RUNNING not in kwargs:
            return None
        now = kwargs.pop(RUNNING)
        stack = ExitStack()
        opened.append((now, running.set(now), stack))
        stack.enter_context(now.attach_taps())
        return args, kwargs

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        if opened and opened[-1][0] is running.get():
            now, token, stack = opened.pop()
            stack.close()
            running.reset(token)
            # A call that failed raises an error of its own.
            if output is not None:
                now.close()

    model.register_forward_pre_hook(before, with_kwargs=True)
    model.register_forward_hook(after, always_call=True)


def attends(module: nn.Module) -> bool:
    """Return whether a module computes attention through transformers' `AttentionInterface`."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def _part(path: str, module: nn.Module, family: Family) -> str:
    if family.qformer is not None and path.startswith(family.qformer + "."):
        return "cross" if "cross" in path.rsplit(".", 2)[-2] or "cross" in path.rsplit(".", 1)[-1] else "qformer"
    return "vision"


def install(model: nn.Module, family: Family) -> tuple[Tap, ...]:
    """Give every attention module and every decoder layer its taps, once; idle taps cost next to nothing.

    Returns:
        The taps on the residual stream, which a pass attaches; attention modules call theirs by themselves.

    Raises:
        TypeError: a decoder layer's attention does not go through `AttentionInterface`.
    """
    AttentionInterface.register(IMPLEMENTATION, attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    decoder = model.get_submodule(family.decoder)
    layers = decoder.get_submodule(family.layers)
    ours = [layer.get_submodule(family.attention) for layer in layers]
    bypassing = sorted({type(m).__name__ for m in ours if not attends(m)})
    if bypassing:
        raise TypeError(
            f"{', '.join(bypassing)} in {type(model).__name__} computes attention without transformers' AttentionInterface, "
            "so scores and pattern cannot be reached; use a version of the model whose attention calls ALL_ATTENTION_FUNCTIONS"
        )
    for index, (layer, own) in enumerate(zip(layers, ours, strict=True)):
        if "taps" not in dict(own.named_children()):
            own.taps = AttentionTaps("decoder", index)
            layer.taps = StreamTaps(index, has_middle=family.resid_mid is not None)
            if index == 0:
                _count_tokens(decoder)
                _take_pass(model)
    counts: dict[str, int] = {}
    for path, module in model.named_modules():
        if attends(module) and "taps" not in dict(module.named_children()):
            part = _part(path, module, family)
            module.taps = AttentionTaps(part, counts.get(part, 0))
            counts[part] = counts.get(part, 0) + 1
    head = model.get_output_embeddings()
    if "taps" not in dict(head.named_children()):
        head.taps = Tap("decoder", "logits", 0, "hook_logits")
    head.taps.bind(head, tap_output)
    model.set_attn_implementation(IMPLEMENTATION)
    return (*(tap for layer in layers for tap in bind(layer, family)), head.taps)


def hooked_backward(blocks: nn.ModuleList, family: Family) -> bool:
    """Return whether a hook of TransformerLens waits for the gradient of any tap.

    PyTorch gives it to them only if the gradient goes on to what enters the tap, so it must not begin there.
    """
    for block in blocks:
        for tap in (*block.taps.children(), *block.get_submodule(family.attention).taps.each):
            if tap.bwd_hooks:
                return True
    return False


def tap_path(family: Family, site: str, layer: int) -> str:
    """Return the path of a decoder tap from the top of the model."""
    block = f"{family.decoder}.{family.layers}.{layer}"
    inside = site in INSIDE_ATTENTION
    return f"{block}.{family.attention}.taps.{site}" if inside else f"{block}.taps.{site}"
