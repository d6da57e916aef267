"""Runs a module that works on every row by itself for the needed rows alone; the others are not computed, or not as part of a graph."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.families.base import Family


def row_by_row(block: nn.Module, family: Family) -> Iterator[nn.Module]:
    """Return the modules of a decoder layer that work on every row by itself: the MLP, and the projections around the attention."""
    yield block.get_submodule(family.mlp_out)
    for module in block.get_submodule(family.attention).children():
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.ndim == 2:  # no norm of single heads
            yield module


@contextmanager
def restrict_rows(module: nn.Module, rows: Sequence[int], *, values: bool) -> Iterator[None]:
    """Let a module that works on every row by itself do so for some rows alone while this is open.

    Args:
        module: the module; one that is given its tokens by name, or without a batch axis (OPT), works as ever.
        rows: the rows that are read.
        values: whether what it returns for the other rows is wanted: it is then computed without a graph, since no gradient comes from
            there. Otherwise those rows are zero.
    """
    at = list(rows)
    given: list[Tensor] = []

    def enter(_: nn.Module, args: tuple) -> tuple | None:
        if not args or args[0].ndim != 3 or (values and not (torch.is_grad_enabled() and args[0].requires_grad)):
            return None
        given.append(args[0])
        return (args[0][:, at], *args[1:])

    def leave(_: nn.Module, args: tuple, some: Any) -> Any:
        if not given:
            return None
        stream = given.pop()
        if not isinstance(some, Tensor):  # experts that say beside which of them they were
            return module.forward(stream, *args[1:])
        with torch.no_grad():
            shape = *stream.shape[:2], some.shape[-1]
            every = module.forward(stream, *args[1:]) if values else some.new_zeros(shape)
        return every.index_copy(1, torch.tensor(at, device=some.device), some)

    handles = module.register_forward_pre_hook(enter), module.register_forward_hook(leave, prepend=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
