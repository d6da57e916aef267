"""The attention function that transformers calls for a tapped model, and the choice of how it computes.

`choose_path` is the one place that decides; each path is a function of its own:

fast: transformers' own sdpa attention, where nothing observes scores or pattern.
some_rows: sdpa for all rows, and eager attention for the query rows that are observed.
whole: eager attention for all rows.
own_key: eager attention in which rows see fixed keys and values of all positions but their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from interp.data.sites import SCORE_SITES
from interp.taps.eager import EagerRows
from interp.taps.points import AttentionTaps, Tap
from interp.taps.running import NO_ROWS, Pass, running
from interp.taps.site_table import LayerRecord

Keys = tuple[Tensor, Tensor]


@final
class Call(NamedTuple):
    """One call of the attention function.

    Args:
        module: the attention module.
        taps: its taps.
        now: the running pass.
        record: what that observes in this layer; None for nothing.
        sites: the observed sites, by the pass or by hooks.
        query: (batch, head, query, head_dim).
        key: (batch, kv_head, key, head_dim).
        value: the same.
        mask: transformers' mask: boolean, additive, or None.
        options: everything else that transformers gives.
        clean: keys and values of a clean run, where there was one.
        local: whether gradients stay within one position.
        rows: the query rows that need eager attention: indices, or None for all.
    """

    module: nn.Module
    taps: AttentionTaps
    now: Pass | None
    record: LayerRecord | None
    sites: frozenset[str] | set[str]
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: dict[str, Any]
    clean: Keys | None
    local: bool
    rows: Tensor | None = None

    def eager(self, some: Tensor | None) -> EagerRows:
        """Return some query rows as eager attention takes them; None for all."""
        query, options, record = self.query, self.options, self.record
        is_causal, scaling = options.get("is_causal"), options.get("scaling")
        causal = bool(getattr(self.module, "is_causal", True) if is_causal is None else is_causal)
        keys = (self.key if self.clean is None else self.clean[0]).shape[2]
        # A single row reads the cache once for every key-value head; more rows are multiplied faster head by head.
        heads = query.shape[1] if query.shape[2] > 1 or self.clean is not None or self.local else self.key.shape[1]
        return EagerRows(
            query if some is None else query[:, :, some],
            self.key if self.key.shape[1] == heads else grouped(self.key, heads),
            self.value if self.value.shape[1] == heads else grouped(self.value, heads),
            additive_mask(self.mask, query, keys, some, causal=causal),
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            options.get("softcap"),
            self.sites,
            self.taps,
            self.now,
            record is not None and record.frees_scores and "attn_scores" not in self.taps.attached,
        )


Path = Callable[[Call], tuple[Tensor, Tensor | None]]
"""Returns z (batch, query, head, head_dim), and the pattern where it is whole."""


def fast(call: Call) -> tuple[Tensor, None]:
    """Return transformers' sdpa attention."""
    return sdpa_attention_forward(call.module, call.query, call.key, call.value, call.mask, **call.options)[0], None


def some_rows(call: Call) -> tuple[Tensor, None]:
    """Return sdpa attention with the chosen rows replaced by eager attention's, so that their scores and pattern pass their taps."""
    assert call.rows is not None  # noqa: S101  # `choose_path` has checked
    rows = call.rows.to(call.query.device)
    z = fast(call)[0]
    return z.index_copy(1, rows, call.eager(rows).attend()[0].transpose(1, 2)), None


def whole(call: Call) -> tuple[Tensor, Tensor]:
    """Return eager attention of all rows."""
    z, pattern = call.eager(None).attend()
    return z.transpose(1, 2).contiguous(), pattern


def own_key(call: Call) -> tuple[Tensor, Tensor | None]:
    """Return attention in which a row sees its own key and value as computed now, and fixed ones of all other positions.

    Fixed are those of a clean run, or else the same numbers without gradient; see `EagerRows.attend_with_own_key`. Rows that are not
    chosen have no gradient at all.
    """
    rows = None if call.rows is None else call.rows.to(call.query.device)
    rest = None
    if rows is not None:
        rest = fast(call._replace(query=call.query.detach(), key=call.key.detach(), value=call.value.detach()))[0]
        if not len(rows):
            return rest, None
    eager, heads, queries = call.eager(rows), call.query.shape[1], call.query.shape[2]
    fixed_k, fixed_v = (
        (eager.k.detach(), eager.v.detach()) if call.clean is None else (grouped(x, heads) for x in call.clean)
    )
    at = torch.arange(queries, device=call.query.device) if rows is None else rows
    z, pattern = eager.attend_with_own_key(fixed_k, fixed_v, at + fixed_k.shape[2] - queries)
    if rows is None or rest is None:
        return z.transpose(1, 2).contiguous(), pattern
    return rest.index_copy(1, rows, z.transpose(1, 2)), None


def choose_path(call: Call) -> tuple[Path, Tensor | None]:
    """Return how one call of attention is computed, and the query rows that need eager attention (None for all)."""
    rows = None
    # sdpa knows no softcap, and a hook on scores or pattern expects all of them.
    all_rows = (
        call.clean is not None
        or call.options.get("softcap") is not None
        or not call.taps.attached.isdisjoint(SCORE_SITES)
    )
    if not all_rows and not (call.record is not None and call.record.rows is None):
        rows = NO_ROWS if call.now is None else call.now.eager_rows(call.record, call.query.shape[2])
    if call.clean is not None or call.local:
        return own_key, rows
    if rows is None:
        return whole, None
    return (some_rows if len(rows) else fast), rows


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what transformers' attention functions return: z (batch, query, head, head_dim), and the pattern where it is whole."""
    taps, now = module.taps, running.get()
    attached, record, clean = taps.attached, None, None
    if now is not None:
        record = now.table.get(taps.place)
        if now.clean is not None and taps.part == "decoder":
            clean = now.clean.of(taps.layer)
    if record is None and clean is None and not attached and options.get("softcap") is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    sites = attached if record is None else record.inside | attached if attached else record.inside
    q, k, v, _, _, out = taps.each
    query = by_head(q, query) if "q" in sites else query
    key = by_head(k, key) if "k" in sites else key
    value = by_head(v, value) if "v" in sites else value
    local = record is not None and record.local
    call = Call(module, taps, now, record, sites, query, key, value, attention_mask, options, clean, local)
    path, rows = choose_path(call)
    z, pattern = path(call if rows is None else call._replace(rows=rows))
    return (out(z) if "z" in sites else z), pattern


def by_head(tap: Tap, value: Tensor) -> Tensor:
    """Pass a value that has its heads before its tokens through a tap, which sees (batch, token, head, head_dim)."""
    return tap(value.transpose(1, 2)).transpose(1, 2)


def grouped(x: Tensor, heads: int) -> Tensor:
    """Return keys or values once for every one of `heads` heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def additive_mask(mask: Tensor | None, q: Tensor, keys: int, rows: Tensor | None, *, causal: bool) -> Tensor | None:
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
