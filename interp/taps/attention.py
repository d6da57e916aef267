"""Attention as transformers computes it, with its taps.

A call that nothing looks at runs transformers' own sdpa attention; where only some query rows are looked at, those rows alone are
computed explicitly.
"""

import functools
from contextlib import nullcontext
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from interp.taps.points import NO_SITES, AttentionTaps, Tap
from interp.taps.running import ATTENTION_SITES, Pass, running

LARGE = 2**22
"""From how many numbers on a pattern is made without a copy of its scores."""
NO_ROWS = torch.empty(0, dtype=torch.long)


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
            shape = torch.Size((*self.q.shape[:3], self.k.shape[2]))
            place = [_place(taps, name, shape, self.q) for name in ("pattern", "pattern_grad")]
            pattern = _Pattern.apply(self.q, self.k, self.scaling, self.mask, place[:1])
            if place[1] is None:
                return self._gathered(taps, pattern, self.v)
            pattern = taps.pattern(pattern)
            return _Gathered.apply(pattern, self.v, place[1:]), pattern
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
        scores = torch.matmul(q, k.transpose(2, 3), out=place[0]).mul_(scaling)
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


class _Gathered(torch.autograd.Function):
    """What a pattern gathers; the pattern's gradient is made where somebody wants to have it."""

    @staticmethod
    def forward(ctx: Any, pattern: Tensor, v: Tensor, place: list[Tensor]) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(pattern, v)
        ctx.place = place
        return torch.matmul(pattern, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        pattern, v = ctx.saved_tensors
        to_v = pattern.mT @ slope if ctx.needs_input_grad[1] else None
        return torch.matmul(slope, v.mT, out=ctx.place[0]), to_v, None


def _place(taps: AttentionTaps, name: str, shape: torch.Size, like: Tensor) -> Tensor | None:
    """Return where a large array of a layer is to be made; None for anywhere.

    It is no view: what a view lies in goes on changing, and autograd would mind.
    """
    now = running.get()
    place = None if now is None else now.place(name, taps.part, taps.layer, shape)
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
