"""The end of the last layer, for the rows whose logits somebody reads: what the other rows come to there reaches nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def narrowed(module: nn.Module, rows: Sequence[int], *, values: bool) -> Iterator[None]:
    """Let a module that works on every row by itself, a last layer's MLP, do so for some rows alone while this is open.

    Args:
        module: the module; one that is given its tokens without a batch axis (OPT) works as ever.
        rows: the rows that are read.
        values: whether what it returns for the other rows is wanted: it is then computed without a graph, since no gradient comes from
            there. Otherwise those rows are zero.
    """
    given: list[Tensor] = []

    def enter(_: nn.Module, args: tuple) -> tuple | None:
        if len(args[0].shape) != 3:
            return None
        given.append(args[0])
        return (args[0][:, list(rows)], *args[1:])

    def leave(_: nn.Module, args: tuple, some: Any) -> Any:
        if not given:
            return None
        stream = given.pop()
        if not isinstance(some, Tensor):  # experts that say beside which of them they were
            return module.forward(stream, *args[1:])
        with torch.no_grad():
            every = module.forward(stream, *args[1:]) if values else torch.zeros_like(stream)
        return every.index_copy(1, torch.tensor(rows, device=some.device), some)

    handles = module.register_forward_pre_hook(enter), module.register_forward_hook(leave, prepend=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
