"""Eager attention: scores, pattern and z of some query rows, through the taps, operation by operation as transformers computes them."""

from typing import NamedTuple, final

import torch
from torch import Tensor

from interp.taps import large
from interp.taps.points import AttentionTaps
from interp.taps.running import Pass


@final
class EagerRows(NamedTuple):
    """Some query rows of one attention call, and all that is needed to attend from them.

    Args:
        q: their queries (batch, head, query, head_dim).
        k: all keys, once for every query head; for a single decoded row, once for every key-value head.
        v: all values, likewise.
        mask: what is added to their scores.
        scaling: what scores are multiplied by.
        softcap: what bounds the scores, where a model bounds them.
        sites: the sites whose taps are observed.
        taps: the taps.
        now: the running pass.
        frees_scores: whether scores may be overwritten once their tap has seen them.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    sites: frozenset[str] | set[str]
    taps: AttentionTaps
    now: Pass | None
    frees_scores: bool

    def attend(self) -> tuple[Tensor, Tensor]:
        """Return z and pattern: softmax(q kᵀ · scaling + mask) and its product with v."""
        heads, groups = self.q.shape[1], self.k.shape[1]
        if self.q.shape[:3].numel() * self.k.shape[2] >= large.LARGE and self._needs_no_scores():
            return self._attend_large()
        if heads == groups:
            return self._finish(torch.matmul(self.q, self.k.transpose(2, 3)).mul_(self.scaling), self.v)
        # One decoded row of grouped heads: the cache is not copied for every head.
        q = self.q.unflatten(1, (groups, heads // groups)).squeeze(3)
        scores = torch.matmul(q, self.k.transpose(2, 3)) * self.scaling
        return self._finish(scores.flatten(1, 2)[:, :, None], self.v)

    def attend_with_own_key(self, fixed_k: Tensor, fixed_v: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and pattern where each row sees its own key and value as computed now, and those of all other positions fixed.

        z_i = Σ_{j≠i} A_ij v̂_j + A_ii v_i, with k̂ and v̂ the fixed keys and values. With k̂, v̂ the same numbers without gradient, the loss
        of a token, which is read at one row, depends on that row's pattern through that row's own stream alone. So the gradient of the sum
        of all losses is, in each row, the gradient of that row's loss, and one backward pass serves every token. With k̂, v̂ of a clean
        run, rows that are changed do not see each other's changes, as if each were a step of decoding behind a clean cache.
        """
        # Counted from the end, where the newest keys are in both.
        fresh = at - fixed_k.shape[2]
        off_k, off_v = self.k[:, :, fresh] - fixed_k[:, :, at], self.v[:, :, fresh] - fixed_v[:, :, at]
        own = (self.q * off_k).sum(-1, keepdim=True) * self.scaling
        if len(fixed_k) == len(self.q) or self.sites:
            return self._replace_own(fixed_k, fixed_v, at, own, off_v)
        # The batch shares the fixed keys: as more rows of one sample, they are not copied for each of the batch.
        batch = len(self.q)
        mask = None if self.mask is None else self.mask.repeat(1, 1, batch, 1)
        q, own, off_v = (x.transpose(0, 1).flatten(1, 2)[None] for x in (self.q, own, off_v))
        found = self._replace(q=q, mask=mask)._replace_own(fixed_k, fixed_v, at.repeat(batch), own, off_v)
        z, pattern = (x[0].unflatten(1, (batch, -1)).transpose(0, 1) for x in found)
        return z, pattern

    def _replace_own(
        self, fixed_k: Tensor, fixed_v: Tensor, at: Tensor, own: Tensor, off_v: Tensor
    ) -> tuple[Tensor, Tensor]:
        row = torch.arange(len(at), device=self.q.device)
        scores = torch.matmul(self.q, fixed_k.transpose(2, 3)).mul_(self.scaling)
        scores[..., row, at] += own[..., 0]
        z, pattern = self._finish(scores, fixed_v)
        return z + pattern[..., row, at, None] * off_v, pattern

    def _needs_no_scores(self) -> bool:
        return (
            self.softcap is None
            and "attn_scores" not in self.sites
            and self.q.dtype == torch.float32
            and self.q.shape[1] == self.k.shape[1]
        )

    def _attend_large(self) -> tuple[Tensor, Tensor]:
        shape = torch.Size((*self.q.shape[:3], self.k.shape[2]))
        ours, slope = (
            large.place_of(self.now, name, self.taps.place, shape, self.q) for name in ("pattern", "pattern_grad")
        )
        pattern = large.LargePattern.apply(self.q, self.k, self.scaling, self.mask, [ours])
        if slope is None:
            return self._gather(pattern, self.v)
        pattern = self.taps.pattern(pattern)
        return large.LargeGather.apply(pattern, self.v, [slope]), pattern

    def _finish(self, scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and pattern of scaled scores, through the taps on scores and pattern."""
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        kept = False
        if "attn_scores" in self.sites:
            scores = self.taps.attn_scores(scores)
            kept = torch.is_grad_enabled() or not self.frees_scores
        if self.mask is not None:
            scores = scores + self.mask if kept else scores.add_(self.mask)
        pattern = large.softmax(scores, v.dtype, in_place=not kept or self.mask is not None)
        return self._gather(pattern, v)

    def _gather(self, pattern: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return pattern · v, with the pattern as its tap leaves it."""
        if "pattern" in self.sites:
            pattern = self.taps.pattern(pattern)
        if v.shape[1] == pattern.shape[1]:
            return torch.matmul(pattern, v), pattern
        grouped = pattern.squeeze(2).unflatten(1, (v.shape[1], -1))
        return torch.matmul(grouped, v).flatten(1, 2)[:, :, None], pattern
