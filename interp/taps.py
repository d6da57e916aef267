"""The one place that knows how transformers computes attention: where values can be read and changed in a model.

Every attention module and every decoder layer gets tap modules: TransformerLens `HookPoint`s under TransformerLens' names,
seen by nnsight as modules, which apply what the running pass says. A layer that nothing looks at runs transformers' own
sdpa attention; where only some query rows are looked at, those rows alone are computed explicitly.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from interp.families import Family
from interp.running import Pass, running

IMPLEMENTATION = "interp"
RUNNING = "running_pass"
"""A keyword of the tapped model's call: the pass to make the running one for the length of that call."""
OTHER_PARTS = ("vision", "qformer", "cross")
NAMES = {"decoder": "blocks", "vision": "vision.blocks", "qformer": "qformer.blocks", "cross": "qformer.cross"}


@final
class Tap(HookPoint):
    """One named place a value passes through."""

    def __init__(self, part: str, site: str, layer: int, name: str) -> None:
        """Remember where this is."""
        super().__init__()
        self.part, self.site, self.layer, self.name = part, site, layer, name

    def forward(self, x: Tensor) -> Tensor:
        """Return the value as the running pass leaves it."""
        now = running.get()
        return x if now is None else now.visit(self.part, self.site, self.layer, x)

    def looked_at(self) -> bool:
        """Say whether the running pass or a TransformerLens hook reads or changes this place."""
        now = running.get()
        return bool(self.fwd_hooks or self.bwd_hooks) or (
            now is not None and now.looks(self.part, self.site, self.layer)
        )


@final
class AttentionTaps(nn.Module):
    """The taps inside one attention module."""

    def __init__(self, part: str, layer: int) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        self.part, self.layer = part, layer
        for site in ("q", "k", "v", "attn_scores", "pattern", "z"):
            setattr(self, site, Tap(part, site, layer, f"{NAMES[part]}.{layer}.attn.hook_{site}"))

    def all(self) -> tuple[Tap, ...]:
        """Return the taps in forward order."""
        return (self.q, self.k, self.v, self.attn_scores, self.pattern, self.z)


@final
class StreamTaps(nn.Module):
    """The taps on the residual stream of one decoder layer."""

    def __init__(self, layer: int, has_middle: bool) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        for site in ("resid_pre", "attn_out", *(["resid_mid"] if has_middle else []), "mlp_out", "resid_post"):
            setattr(self, site, Tap("decoder", site, layer, f"blocks.{layer}.hook_{site}"))


def _explicit(
    taps: AttentionTaps, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Attend the way transformers' eager attention does, through the taps on scores and pattern."""
    scores = torch.matmul(q, k.transpose(2, 3)) * scaling
    return _attend(taps, scores, v, mask, softcap)


def _attend(
    taps: AttentionTaps, scores: Tensor, v: Tensor, mask: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = taps.attn_scores(scores)
    if mask is not None:
        scores = scores + mask
    pattern = taps.pattern(scores.softmax(-1, dtype=torch.float32).to(v.dtype))
    return torch.matmul(pattern, v), pattern


def _local(
    attend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    q: Tensor,
    own: tuple[Tensor, Tensor],
    still: tuple[Tensor, Tensor],
    at: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """Attend to the keys and values `still`, but each row (at the positions `at`) to its own key and value as they are now.

    Where `still` is the same without gradient: the loss of a token is read at one row, and depends on that row's pattern through
    that row's own stream alone. So the gradient of the sum of all losses is, in each row, the gradient of that row's loss, and
    one backward pass serves every token. Where `still` is what an undisturbed pass computed: rows that are disturbed do not
    see each other's disturbance, as if each were a step of decoding behind a clean cache.
    """
    still_k, still_v = still
    mine = torch.zeros(len(at), still_k.shape[2], dtype=q.dtype, device=q.device)
    mine[torch.arange(len(at), device=q.device), at] = 1
    off_k, off_v = (
        own[0] - still_k[:, :, at],
        own[1] - still_v[:, :, at],
    )  # with the same: zero in value, not in gradient
    scores = torch.matmul(q, still_k.transpose(2, 3)) * scaling
    scores = scores + ((q * off_k).sum(-1, keepdim=True) * scaling) * mine
    z, pattern = attend(scores, still_v)
    return z + (pattern * mine).sum(-1, keepdim=True) * off_v, pattern


def _grouped(x: Tensor, heads: int) -> Tensor:
    """Return keys or values once for every query head."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _additive(mask: Tensor | None, q: Tensor, keys: int, rows: Tensor, causal: bool) -> Tensor | None:
    """Return the mask of the chosen query rows in the form that is added to the scores, as eager attention has it."""
    if mask is None:
        if not causal or q.shape[2] == 1:
            return None
        positions = torch.arange(keys, device=q.device)
        mask = positions <= (rows + keys - q.shape[2])[:, None]
    else:
        mask = mask[..., rows, :] if mask.shape[-2] > 1 else mask
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what transformers' attention functions return: z (batch, query, head, head_dim), and the pattern where it is whole."""
    taps, now, softcap = module.taps, running.get(), kwargs.get("softcap")
    rows = _rows(taps, now, query.shape[2])
    clean = now.clean[taps.layer] if now is not None and now.clean is not None and taps.part == "decoder" else None
    if softcap is not None or clean is not None:
        rows = None
    watched = any(t.looked_at() for t in (taps.q, taps.k, taps.v, taps.z))
    fast = dict(dropout=dropout, scaling=scaling, **kwargs)
    if rows is not None and not len(rows) and not watched:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **fast)
    query, key, value = (
        t(x.transpose(1, 2)).transpose(1, 2) for t, x in zip((taps.q, taps.k, taps.v), (query, key, value), strict=True)
    )
    pattern = None
    if rows is not None:
        whole = (x.detach() for x in (query, key, value)) if now and now.local else (query, key, value)
        z = sdpa_attention_forward(module, *whole, attention_mask, **fast)[0]
    if rows is None or len(rows):
        some = torch.arange(query.shape[2], device=query.device) if rows is None else rows.to(query.device)
        causal = kwargs.get("is_causal") if kwargs.get("is_causal") is not None else getattr(module, "is_causal", True)
        keys = key.shape[2] if clean is None else clean[0].shape[2]
        mask = _additive(attention_mask, query, keys, some, bool(causal))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        chosen, at = query if rows is None else query[:, :, some], some + keys - query.shape[2]
        k, v = _grouped(key, query.shape[1]), _grouped(value, query.shape[1])
        attend = functools.partial(_attend, taps, mask=mask, softcap=softcap)
        with _showing(now, rows):
            if clean is not None:
                still = (_grouped(clean[0], query.shape[1]), _grouped(clean[1], query.shape[1]))
                part, pattern = _local(attend, chosen, (k, v), still, at, scale)
            elif now is not None and now.local and taps.part == "decoder":
                own, still = (k[:, :, at], v[:, :, at]), (k.detach(), v.detach())
                part, pattern = _local(attend, chosen, own, still, at, scale)
            else:
                part, pattern = _explicit(taps, chosen, k, v, mask, scale, softcap)
        part = part.transpose(1, 2)
        z = part.contiguous() if rows is None else z.index_copy(1, some, part)
    return taps.z(z), pattern if rows is None else None


def _rows(taps: AttentionTaps, now: Pass | None, queries: int) -> Tensor | None:
    if any(t.fwd_hooks or t.bwd_hooks for t in (taps.attn_scores, taps.pattern)):
        return None
    return torch.empty(0, dtype=torch.long) if now is None else now.explicit_rows(taps.part, taps.layer, queries)


def _showing(now: Pass | None, rows: Tensor | None) -> Any:
    return nullcontext() if now is None else now.showing(rows)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, value: Tensor) -> Any:
    return (value, *output[1:]) if isinstance(output, tuple) else value


def _by_token(tap: Tap, value: Tensor) -> Tensor:
    """Show a tap (batch, token, dim), also where a layer has flattened the tokens of its batch (OPT)."""
    now = running.get()
    if value.ndim != 2 or now is None:
        return tap(value)
    apart = value.view(now.roles.batch, -1, value.shape[-1])
    changed = tap(apart)
    return (
        value if changed is apart and not now.gradient else changed.reshape(value.shape)
    )  # gradients reach what is used


def _tap_output(module: nn.Module, tap: Tap) -> None:
    """Let what a module returns pass through a tap, for good."""

    def leave(_: nn.Module, __: Any, output: Any) -> Any:
        if not tap.looked_at():
            return None
        value = _first(output)
        changed = _by_token(tap, value)
        return None if changed is value else _with_first(output, changed)

    module.register_forward_hook(leave)


def _tap_input(module: nn.Module, tap: Tap) -> None:
    """Let the stream that enters a layer pass through a tap, for good; gradients begin at the first layer."""

    def enter(_: nn.Module, args: tuple, kwargs: dict) -> Any:
        now = running.get()
        begins = now is not None and now.gradient and tap.layer == 0
        if not begins and not tap.looked_at():
            return None
        value = args[0] if args else kwargs["hidden_states"]
        changed = tap(value.detach().requires_grad_() if begins else value)
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    module.register_forward_pre_hook(enter, with_kwargs=True)


def _tap_middle(module: nn.Module, tap: Tap) -> None:
    """Let the stream between attention and MLP pass through a tap, for good.

    The block goes on adding to the very tensor that its second norm reads, so a change is written into that tensor.
    """

    def middle(_: nn.Module, args: tuple) -> None:
        if tap.looked_at():
            value = args[0]
            now = running.get()
            edited = now is not None and any(c.takes("decoder", "resid_mid", tap.layer) for c in now.changes)
            flat = value.ndim == 2 and now is not None and now.gradient
            changed = _by_token(tap, value.clone() if edited or flat else value)
            if changed is not value:
                value.copy_(changed)

    module.register_forward_pre_hook(middle)


def _count_tokens(decoder: nn.Module) -> None:
    """Tell the running pass, before the decoder runs, how many tokens are cached and how many are new."""
    signature = inspect.signature(decoder.forward)

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        now = running.get()
        if now is None:
            return
        given = signature.bind_partial(*args, **kwargs).arguments
        given = {**given, **given.pop("kwargs", {})}
        ids: Tensor = given["input_ids"] if given.get("inputs_embeds") is None else given["inputs_embeds"]
        cache = given.get("past_key_values")
        now.step += 1
        now.roles.advance(ids.shape[0], 0 if cache is None else int(cache.get_seq_length()), ids.shape[1], ids.device)

    decoder.register_forward_pre_hook(before, with_kwargs=True)


def _take_pass(model: nn.Module) -> None:
    """Let a call of the model bring its own running pass, which ends with the call."""
    opened: list[tuple[Pass, Any]] = []

    def before(_: nn.Module, args: tuple, kwargs: dict) -> Any:
        if RUNNING not in kwargs:
            return None
        now = kwargs.pop(RUNNING)
        opened.append((now, running.set(now)))
        return args, kwargs

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        if opened and opened[-1][0] is running.get():
            now, token = opened.pop()
            running.reset(token)
            if output is not None:  # a call that failed says so itself
                now.close()

    model.register_forward_pre_hook(before, with_kwargs=True)
    model.register_forward_hook(after, always_call=True)


def attends(module: nn.Module) -> bool:
    """Say whether a module computes attention through transformers' `AttentionInterface`."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def _part(path: str, module: nn.Module, family: Family) -> str:
    if family.qformer is not None and path.startswith(family.qformer + "."):
        return "cross" if "cross" in path.rsplit(".", 2)[-2] or "cross" in path.rsplit(".", 1)[-1] else "qformer"
    return "vision"


def install(model: nn.Module, family: Family) -> None:
    """Give every attention module and every decoder layer its taps, once; they cost next to nothing until something looks.

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
            _tap_layer(layer, index, family)
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
        _tap_output(head, head.taps)
    model.set_attn_implementation(IMPLEMENTATION)


def _tap_layer(layer: nn.Module, index: int, family: Family) -> None:
    layer.taps = StreamTaps(index, has_middle=family.resid_mid is not None)
    _tap_input(layer, layer.taps.resid_pre)
    _tap_output(layer.get_submodule(family.attn_out or family.attention), layer.taps.attn_out)
    if family.resid_mid is not None:
        _tap_middle(layer.get_submodule(family.resid_mid), layer.taps.resid_mid)
    _tap_output(layer.get_submodule(family.mlp_out), layer.taps.mlp_out)
    _tap_output(layer, layer.taps.resid_post)


def tap_path(family: Family, site: str, layer: int) -> str:
    """Return the path of a decoder tap from the top of the model."""
    block = f"{family.decoder}.{family.layers}.{layer}"
    inside = site in ("q", "k", "v", "attn_scores", "pattern", "z")
    return f"{block}.{family.attention}.taps.{site}" if inside else f"{block}.taps.{site}"
