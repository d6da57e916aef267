"""The residual stream passes through its taps: hooks on modules, which are there while somebody observes the stream."""

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp.families.base import Family
from interp.taps.points import Tap
from interp.taps.running import running


def _by_token(tap: Tap, value: Tensor) -> Tensor:
    """Pass the stream through a tap, which sees (batch, token, dim), also where a layer has flattened the tokens of its batch (OPT)."""
    now = running.get()
    if value.ndim != 2 or now is None:
        return tap(value)
    unflattened = value.view(now.state.roles.batch, -1, value.shape[-1])
    changed = tap(unflattened)
    # Gradients reach only what is used afterwards, so the view that was read has to go on.
    kept = changed is unflattened and not now.spec.gradient
    return value if kept else changed.reshape(value.shape)


def tap_output(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let what a module returns pass through a tap."""

    def leave(_: nn.Module, __: Any, output: Any) -> Any:
        if not tap.observed():
            return None
        value = output[0] if isinstance(output, tuple) else output
        changed = _by_token(tap, value)
        if changed is value:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    # Before transformers' own hooks, which note what they see.
    return module.register_forward_hook(leave, prepend=True)


def _tap_input(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let the stream that enters a layer pass through a tap."""

    def enter(_: nn.Module, args: tuple, kwargs: dict) -> Any:
        if not tap.observed():
            return None
        changed = tap(args[0] if args else kwargs["hidden_states"])
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)


def _tap_middle(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let the stream between attention and MLP pass through a tap.

    The block goes on adding to the very tensor that its second norm reads, and a hook on the norm can replace only what the norm sees. So
    a change is written into that tensor.
    """

    def middle(_: nn.Module, args: tuple) -> None:
        if not tap.observed():
            return
        value, now = args[0], running.get()
        record = None if now is None else now.table.get((tap.part, tap.layer))
        edited = record is not None and record.changes(tap.site)
        flat = value.ndim == 2 and now is not None and now.spec.gradient
        # What is written into must not be what an intervention or the reader holds.
        changed = _by_token(tap, value.clone() if edited or flat else value)
        if changed is not value:
            value.copy_(changed)

    return module.register_forward_pre_hook(middle, prepend=True)


def bind(layer: nn.Module, family: Family) -> tuple[Tap, ...]:
    """Tell the taps of a layer whose values they see; also those that came with a copy of a model, and know the original's."""
    taps = layer.taps
    taps.resid_pre.bind(layer, _tap_input)
    taps.attn_out.bind(layer.get_submodule(family.attn_out or family.attention), tap_output)
    if family.resid_mid is not None:
        taps.resid_mid.bind(layer.get_submodule(family.resid_mid), _tap_middle)
    taps.mlp_out.bind(layer.get_submodule(family.mlp_out), tap_output)
    taps.resid_post.bind(layer, tap_output)
    return tuple(taps.children())
