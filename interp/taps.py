"""The one place that knows how transformers computes attention: where values can be read and changed in a model.

Every attention module and every decoder layer gets tap modules: TransformerLens `HookPoint`s under TransformerLens' names,
seen by nnsight as modules, which apply what the running pass says. A layer that nothing looks at runs transformers' own
sdpa attention; where only some query rows are looked at, those rows alone are computed explicitly.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle
from transformer_lens.hook_points import HookPoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from interp.families import Family
from interp.running import ATTENTION_SITES, Pass, running
from interp.undisturbed import decode_ahead, forget

IMPLEMENTATION = "interp"
RUNNING = "running_pass"
"""A keyword of the tapped model's call: the pass to make the running one for the length of that call."""
LARGE = 2**22
"""From how many numbers on a pattern is made without a copy of its scores."""
NO_ROWS, NO_SITES = torch.empty(0, dtype=torch.long), frozenset[str]()
OTHER_PARTS = ("vision", "qformer", "cross")
Attach = Callable[[nn.Module, "Tap"], RemovableHandle]
"""Lets the values of a module come by a tap, until the handle is removed."""
NAMES = {"decoder": "blocks", "vision": "vision.blocks", "qformer": "qformer.blocks", "cross": "qformer.cross"}


@final
class Tap(HookPoint):
    """One named place a value passes through."""

    def __init__(self, part: str, site: str, layer: int, name: str) -> None:
        """Remember where this is."""
        super().__init__()
        self.part, self.site, self.layer, self.name = part, site, layer, name
        self._bound: tuple[weakref.ref[nn.Module], Attach] | None = None
        self._listeners, self._heard = 0, False
        self._handle: RemovableHandle | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the value as the running pass leaves it."""
        now = running.get()
        return x if now is None else now.visit(self.part, self.site, self.layer, x)

    def bind(self, module: nn.Module, attach: "Attach") -> None:
        """Say which module's values come by here, and how: not before somebody listens, for a hook costs even where nobody does."""
        self._bound = weakref.ref(module), attach

    def listen(self) -> None:
        """Let values come by until `leave`; several may listen."""
        self._listeners += 1
        module = None if self._bound is None else self._bound[0]()
        if self._listeners == 1 and self._bound is not None and module is not None:
            self._handle = self._bound[1](module, self)

    def leave(self) -> None:
        """Listen no longer."""
        self._listeners -= 1
        if not self._listeners and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def add_hook(self, *args: Any, **kwargs: Any) -> None:
        """Add a hook of TransformerLens, which listens as long as it is there."""
        HookPoint.add_hook(self, *args, **kwargs)
        self._hear()

    def remove_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Remove hooks of TransformerLens."""
        HookPoint.remove_hooks(self, *args, **kwargs)
        self._hear()

    def _hear(self) -> None:
        hooked = bool(self.fwd_hooks or self.bwd_hooks)
        if hooked != self._heard:
            self._heard = hooked
            (self.listen if hooked else self.leave)()

    def looked_at(self) -> bool:
        """Say whether the running pass or a TransformerLens hook reads or changes this place."""
        if self.fwd_hooks or self.bwd_hooks:
            return True
        now = running.get()
        return now is not None and now.looks(self.part, self.site, self.layer)


@final
class AttentionTaps(nn.Module):
    """The taps inside one attention module."""

    def __init__(self, part: str, layer: int) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        self.part, self.layer = part, layer
        for site in ("q", "k", "v", "attn_scores", "pattern", "z"):
            setattr(self, site, Tap(part, site, layer, f"{NAMES[part]}.{layer}.attn.hook_{site}"))
        self.each = (
            self.q,
            self.k,
            self.v,
            self.attn_scores,
            self.pattern,
            self.z,
        )  # a tuple is found faster than a submodule

    def hooked(self) -> frozenset[str]:
        """Return the sites here that TransformerLens hooks read or change."""
        for tap in self.each:
            if tap.fwd_hooks or tap.bwd_hooks:
                return frozenset(t.site for t in self.each if t.fwd_hooks or t.bwd_hooks)
        return NO_SITES

    def frees_scores(self) -> bool:
        """Say whether scores that were shown may be overwritten."""
        now = running.get()
        hooked = self.attn_scores.fwd_hooks or self.attn_scores.bwd_hooks
        return not hooked and now is not None and now.frees_scores(self.part, self.layer)


@final
class StreamTaps(nn.Module):
    """The taps on the residual stream of one decoder layer."""

    def __init__(self, layer: int, has_middle: bool) -> None:
        """Name the taps after TransformerLens."""
        super().__init__()
        for site in ("resid_pre", "attn_out", *(["resid_mid"] if has_middle else []), "mlp_out", "resid_post"):
            setattr(self, site, Tap("decoder", site, layer, f"blocks.{layer}.hook_{site}"))


@final
class _Rows(NamedTuple):
    """Some query rows of one attention call, and all that is needed to attend from them.

    Args:
        q: their queries (batch, head, query, head_dim).
        k: all keys, once for every query head; of a single decoded row, once for every key-value head.
        v: all values, likewise.
        mask: what is added to their scores.
        scaling: what scores are multiplied by.
        softcap: what bounds the scores, where a model bounds them.
        sites: which taps are looked at.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    sites: frozenset[str]

    def attend(self, taps: AttentionTaps) -> tuple[Tensor, Tensor]:
        """Return z and pattern the way transformers' eager attention computes them, through the taps on scores and pattern."""
        heads, groups = self.q.shape[1], self.k.shape[1]
        if self._apart_from_scores():
            now, shape = running.get(), torch.Size((*self.q.shape[:3], self.k.shape[2]))
            place = None if now is None else now.place(taps.part, taps.layer, shape)
            return self._gathered(taps, _Pattern.apply(self.q, self.k, self.scaling, self.mask, [place]), self.v)
        if heads == groups:
            return self._through(taps, torch.matmul(self.q, self.k.transpose(2, 3)).mul_(self.scaling), self.v)
        q = self.q.unflatten(1, (groups, heads // groups)).squeeze(
            3
        )  # one decoded row: the cache is not copied for every head
        scores = torch.matmul(q, self.k.transpose(2, 3)) * self.scaling
        return self._through(taps, scores.flatten(1, 2)[:, :, None], self.v)

    def attend_apart(self, taps: AttentionTaps, still_k: Tensor, still_v: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and pattern where each row sees its own key and value as they are now, and every other as it `still` is.

        Where `still` is the same without gradient: the loss of a token is read at one row, and depends on that row's pattern
        through that row's own stream alone. So the gradient of the sum of all losses is, in each row, the gradient of that
        row's loss, and one backward pass serves every token. Where `still` is what an undisturbed pass computed: rows that are
        disturbed do not see each other's disturbance, as if each were a step of decoding behind a clean cache.
        """
        fresh = at - still_k.shape[2]  # counted from the end, where the newest keys stand in both
        off_k, off_v = self.k[:, :, fresh] - still_k[:, :, at], self.v[:, :, fresh] - still_v[:, :, at]
        own = (self.q * off_k).sum(-1, keepdim=True) * self.scaling
        if len(still_k) == len(self.q) or self.sites:
            return self._apart(taps, still_k, still_v, at, own, off_v)
        batch = len(self.q)  # they share what is still: as more rows of one, it is not copied for each of them
        mask = None if self.mask is None else self.mask.repeat(1, 1, batch, 1)
        q, own, off_v = (x.transpose(0, 1).flatten(1, 2)[None] for x in (self.q, own, off_v))
        found = self._replace(q=q, mask=mask)._apart(taps, still_k, still_v, at.repeat(batch), own, off_v)
        z, pattern = (x[0].unflatten(1, (batch, -1)).transpose(0, 1) for x in found)
        return z, pattern

    def _apart(
        self, taps: AttentionTaps, still_k: Tensor, still_v: Tensor, at: Tensor, own: Tensor, off_v: Tensor
    ) -> tuple[Tensor, Tensor]:
        row = torch.arange(len(at), device=self.q.device)
        scores = torch.matmul(self.q, still_k.transpose(2, 3)).mul_(self.scaling)
        scores[..., row, at] += own[..., 0]
        z, pattern = self._through(taps, scores, still_v)
        return z + pattern[..., row, at, None] * off_v, pattern

    def _apart_from_scores(self) -> bool:
        """Say whether nothing asks for these scores, and they or their gradient would be large."""
        plain = self.softcap is None and "attn_scores" not in self.sites and self.q.dtype == torch.float32
        large = self.q.shape[:3].numel() * self.k.shape[2] >= LARGE and self.q.shape[1] == self.k.shape[1]
        return plain and large

    def _through(self, taps: AttentionTaps, scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        kept = False
        if "attn_scores" in self.sites:
            scores = taps.attn_scores(scores)
            kept = torch.is_grad_enabled() or not taps.frees_scores()
        if self.mask is not None:
            scores = scores + self.mask if kept else scores.add_(self.mask)
        pattern = _softmax(scores, v.dtype, in_place=not kept or self.mask is not None)
        return self._gathered(taps, pattern, v)

    def _gathered(self, taps: AttentionTaps, pattern: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if "pattern" in self.sites:
            pattern = taps.pattern(pattern)
        if v.shape[1] == pattern.shape[1]:
            return torch.matmul(pattern, v), pattern
        grouped = pattern.squeeze(2).unflatten(1, (v.shape[1], -1))
        return torch.matmul(grouped, v).flatten(1, 2)[:, :, None], pattern


def _softmax(scores: Tensor, dtype: torch.dtype, *, in_place: bool) -> Tensor:
    """Return the pattern; one as large as `LARGE` head by head in the scores' own place, where no gradient needs them."""
    if scores.numel() < LARGE or not in_place or torch.is_grad_enabled() or scores.dtype != dtype:
        return scores.softmax(-1, dtype=torch.float32).to(dtype)
    for head in scores.unbind(1):
        head.copy_(head.softmax(-1, dtype=torch.float32))
    return scores


class _Pattern(torch.autograd.Function):
    """The pattern of queries and keys, made in the place of their scores, which is where somebody wants to have it if anywhere.

    Fresh memory costs more than the arithmetic. In the backward pass the gradient of the scores is that of one head at a time.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, scaling: float, mask: Tensor | None, place: list[Tensor | None]
    ) -> Tensor:
        scores = torch.matmul(q, k.transpose(2, 3), out=_alias(place[0], q)).mul_(scaling)
        pattern = _softmax(scores if mask is None else scores.add_(mask), q.dtype, in_place=True)
        ctx.save_for_backward(q, k, pattern)
        ctx.scaling = scaling
        return pattern

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, pattern = ctx.saved_tensors
        to_q, to_k = torch.empty_like(q), torch.empty_like(k)
        for head in range(q.shape[1]):
            through = slope[:, head] * pattern[:, head]
            through -= through.sum(-1, keepdim=True) * pattern[:, head]
            through *= ctx.scaling
            to_q[:, head] = through @ k[:, head]
            to_k[:, head] = through.mT @ q[:, head]
        return to_q, to_k, None, None, None


def _alias(place: Tensor | None, like: Tensor) -> Tensor | None:
    """Return a tensor over the same memory that is no view: what a view lies in goes on changing, and autograd would mind."""
    if place is None or place.dtype != like.dtype or place.device != like.device:
        return None
    return place.new_empty(0).set_(place.untyped_storage(), place.storage_offset(), place.shape, place.stride())


def _grouped(x: Tensor, heads: int) -> Tensor:
    """Return keys or values once for every query head."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _additive(mask: Tensor | None, q: Tensor, keys: int, rows: Tensor | None, causal: bool) -> Tensor | None:
    """Return the mask of the chosen query rows in the form that is added to the scores, as eager attention has it."""
    if mask is None:
        if not causal or q.shape[2] == 1:
            return None
        positions = torch.arange(keys, device=q.device)
        some = positions[-q.shape[2] :] if rows is None else rows + keys - q.shape[2]
        mask = positions <= some[:, None]
    else:
        mask = mask[..., rows, :] if rows is not None and mask.shape[-2] > 1 else mask
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what transformers' attention functions return: z (batch, query, head, head_dim), and the pattern where it is whole.

    Rows that nothing looks at take transformers' own sdpa attention; rows that something looks at are computed explicitly.
    """
    taps, now = module.taps, running.get()
    hooked = taps.hooked()
    inside = NO_SITES if now is None else now.inside(taps.part, taps.layer)
    sites = inside | hooked if hooked else inside
    softcap = options.get("softcap")
    if not sites and softcap is None and (now is None or not now.apart(taps.part, taps.layer)):  # sdpa knows no softcap
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    q, k, v, _, _, out = taps.each
    query = _by_head(q, query) if "q" in sites else query
    key = _by_head(k, key) if "k" in sites else key
    value = _by_head(v, value) if "v" in sites else value
    rows = None
    if softcap is None and hooked.isdisjoint(ATTENTION_SITES):
        rows = NO_ROWS if now is None else now.explicit_rows(taps.part, taps.layer, query.shape[2])
    explicit = functools.partial(_explicit, module, now, (query, key, value), attention_mask, rows, options, sites)
    if rows is None:
        z, pattern = explicit()
        return (out(z.contiguous()) if "z" in sites else z.contiguous()), pattern
    still = now is not None and now.stays_local(taps.part, taps.layer)
    qkv = (x.detach() if still else x for x in (query, key, value))
    z = sdpa_attention_forward(module, *qkv, attention_mask, **options)[0]
    if len(rows):
        z = z.index_copy(1, rows.to(z.device), explicit()[0])
    return (out(z) if "z" in sites else z), None


def _by_head(tap: Tap, value: Tensor) -> Tensor:
    """Show a tap (batch, token, head, head_dim) of a value that has its heads before its tokens."""
    return tap(value.transpose(1, 2)).transpose(1, 2)


def _explicit(
    module: nn.Module,
    now: Pass | None,
    qkv: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    rows: Tensor | None,
    options: dict[str, Any],
    sites: frozenset[str],
) -> tuple[Tensor, Tensor]:
    """Return z (batch, query, head, head_dim) and pattern of some query rows (None: of all)."""
    query, key, value = qkv
    taps, heads = module.taps, query.shape[1]
    inside = now if taps.part == "decoder" else None
    clean = None if inside is None or inside.clean is None else inside.clean[taps.layer]
    local = inside is not None and inside.stays_local(taps.part, taps.layer)
    keys = key.shape[2] if clean is None else clean[0].shape[2]
    shared = query.shape[2] == 1 and clean is None and not local
    some = None if rows is None else rows.to(query.device)
    said, scaling = options.get("is_causal"), options.get("scaling")
    causal = bool(getattr(module, "is_causal", True) if said is None else said)
    call = _Rows(
        query if rows is None else query[:, :, some],
        key if shared else _grouped(key, heads),
        value if shared else _grouped(value, heads),
        _additive(mask, query, keys, some, causal),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        options.get("softcap"),
        sites,
    )
    with nullcontext() if now is None or rows is None else now.showing(rows):
        if clean is None and not local:
            z, pattern = call.attend(taps)
        else:
            k, v = (call.k.detach(), call.v.detach()) if clean is None else (_grouped(x, heads) for x in clean)
            at = torch.arange(query.shape[2], device=query.device) if some is None else some
            z, pattern = call.attend_apart(taps, k, v, at + keys - query.shape[2])
    return z.transpose(1, 2), pattern


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
    kept = changed is apart and not now.gradient  # gradients reach only what is used afterwards
    return value if kept else changed.reshape(value.shape)


def _tap_output(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let what a module returns pass through a tap."""

    def leave(_: nn.Module, __: Any, output: Any) -> Any:
        if not tap.looked_at():
            return None
        value = _first(output)
        changed = _by_token(tap, value)
        return None if changed is value else _with_first(output, changed)

    return module.register_forward_hook(leave, prepend=True)  # before transformers' own, which note what they see


def _tap_input(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let the stream that enters a layer pass through a tap."""

    def enter(_: nn.Module, args: tuple, kwargs: dict) -> Any:
        if not tap.looked_at():
            return None
        changed = tap(args[0] if args else kwargs["hidden_states"])
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)


def _tap_middle(module: nn.Module, tap: Tap) -> RemovableHandle:
    """Let the stream between attention and MLP pass through a tap.

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

    return module.register_forward_pre_hook(middle, prepend=True)


def _count_tokens(decoder: nn.Module) -> None:
    """Tell the running pass, before the decoder runs, how many tokens are cached and how many are new; what must run first, runs."""
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
        now.step += 1
        now.roles.advance(ids.shape[0], 0 if cache is None else int(cache.get_seq_length()), ids.shape[1], ids.device)
        ahead = decode_ahead(module, now, given)  # a copied model has this hook too
        return None if ahead is None else ((), ahead)

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        now = running.get()
        if now is not None:
            forget(now, output)

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
        stack.enter_context(now.listening())
        return args, kwargs

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        if opened and opened[-1][0] is running.get():
            now, token, stack = opened.pop()
            stack.close()
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


def install(model: nn.Module, family: Family) -> tuple[Tap, ...]:
    """Give every attention module and every decoder layer its taps, once; they cost next to nothing until something looks.

    Returns:
        The taps at which a pass has to listen; the attention modules ask theirs by themselves.

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
    head.taps.bind(head, _tap_output)
    model.set_attn_implementation(IMPLEMENTATION)
    return (*(tap for layer in layers for tap in _bound(layer, family)), head.taps)


def _bound(layer: nn.Module, family: Family) -> tuple[Tap, ...]:
    """Tell the taps of a layer whose values they see; also those that came with a copy of a model, and know the original's."""
    taps = layer.taps
    taps.resid_pre.bind(layer, _tap_input)
    taps.attn_out.bind(layer.get_submodule(family.attn_out or family.attention), _tap_output)
    if family.resid_mid is not None:
        taps.resid_mid.bind(layer.get_submodule(family.resid_mid), _tap_middle)
    taps.mlp_out.bind(layer.get_submodule(family.mlp_out), _tap_output)
    taps.resid_post.bind(layer, _tap_output)
    return tuple(taps.children())


def hooked_backward(blocks: nn.ModuleList, family: Family) -> bool:
    """Say whether TransformerLens hooks wait for the gradient of any tap, which is theirs only if it goes on to what enters it."""
    taps = (t for b in blocks for t in (*b.taps.children(), *b.get_submodule(family.attention).taps.each))
    return any(isinstance(tap, Tap) and tap.bwd_hooks for tap in taps)


def tap_path(family: Family, site: str, layer: int) -> str:
    """Return the path of a decoder tap from the top of the model."""
    block = f"{family.decoder}.{family.layers}.{layer}"
    inside = site in ("q", "k", "v", "attn_scores", "pattern", "z")
    return f"{block}.{family.attention}.taps.{site}" if inside else f"{block}.taps.{site}"
