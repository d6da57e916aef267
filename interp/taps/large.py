"""Large patterns: made in the place where they are kept, and differentiated one head at a time.

Fresh memory costs more than the arithmetic. From `LARGE` entries on, a pattern takes the place of its scores, which is the place where
the caller wants to have it, if it wants it anywhere; its gradient is written where that is kept. Smaller ones gain nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from interp.taps.running import Pass

LARGE = 2**22
"""From how many entries on a pattern is made without a copy of its scores."""


def softmax(scores: Tensor, dtype: torch.dtype, *, in_place: bool) -> Tensor:
    """Return the pattern of masked scores; a large one head by head in the scores' own place, where no gradient needs them."""
    if scores.numel() < LARGE or not in_place or torch.is_grad_enabled() or scores.dtype != dtype:
        return scores.softmax(-1, dtype=torch.float32).to(dtype)
    for head in scores.unbind(1):
        head.copy_(head.softmax(-1, dtype=torch.float32))
    return scores


class LargePattern(torch.autograd.Function):
    """The pattern of queries and keys, made in the place of their scores. In the backward pass one head's gradient is held at a time."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, scaling: float, mask: Tensor | None, place: list[Tensor | None]
    ) -> Tensor:
        """Return softmax(q kᵀ · scaling + mask)."""
        scores = torch.matmul(q, k.transpose(2, 3), out=place[0]).mul_(scaling)
        pattern = softmax(scores if mask is None else scores.add_(mask), q.dtype, in_place=True)
        ctx.save_for_backward(q, k, pattern)
        ctx.scaling = scaling
        return pattern

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of queries and keys."""
        q, k, pattern = ctx.saved_tensors
        to_q, to_k = torch.empty_like(q), torch.empty_like(k)
        for head in range(q.shape[1]):
            through = slope[:, head] * pattern[:, head]
            through -= through.sum(-1, keepdim=True) * pattern[:, head]
            through *= ctx.scaling
            to_q[:, head] = through @ k[:, head]
            to_k[:, head] = through.mT @ q[:, head]
        return to_q, to_k, None, None, None


class LargeGather(torch.autograd.Function):
    """What a pattern gathers from the values; the pattern's gradient is made in a given place."""

    @staticmethod
    def forward(ctx: Any, pattern: Tensor, v: Tensor, place: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Return pattern · v."""
        ctx.save_for_backward(pattern, v)
        ctx.place = place
        return torch.matmul(pattern, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of pattern and values."""
        pattern, v = ctx.saved_tensors
        to_v = pattern.mT @ slope if ctx.needs_input_grad[1] else None
        return torch.matmul(slope, v.mT, out=ctx.place[0]), to_v, None


def place_of(now: Pass | None, name: str, place: tuple[str, int], shape: torch.Size, like: Tensor) -> Tensor | None:
    """Return the tensor in which a large array of a layer is to be made; None for a new one.

    The tensor shares the storage of the place and is no view of it: the array that the place lies in goes on changing, which autograd
    would refuse in a view.
    """
    found = None if now is None else now.place(name, *place, shape)
    if found is None or found.dtype != like.dtype or found.device != like.device:
        return None
    return found.new_empty(0).set_(found.untyped_storage(), found.storage_offset(), found.shape, found.stride())
