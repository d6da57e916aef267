"""The one place that knows nnsight: a model as nnsight sees it, and one trace that reads values and their gradients."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import nnsight
import torch
from nnsight import NNsight
from torch import Tensor, nn

Visit = Callable[[str, Tensor, Tensor | None], None]


def seen(module: nn.Module) -> NNsight:
    """Return a model as nnsight sees it; the model itself stays as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has a submodule named 'output'.*")  # only its name differs there
        return NNsight(module)


def _at(wrapped: NNsight, path: str) -> Any:
    place = wrapped
    for name in path.split("."):
        place = place[int(name)] if name.isdigit() else getattr(place, name)
    return place


def forward(wrapped: NNsight, inputs: Mapping[str, Any], reads: Sequence[str], visit: Visit) -> Tensor:
    """Run one forward pass, handing every value over as it is computed.

    Args:
        wrapped: the model as nnsight sees it.
        inputs: its inputs.
        reads: paths of the taps to read, in forward order.
        visit: called with path, value and None.

    Returns:
        The logits.
    """
    places = [(path, _at(wrapped, path)) for path in reads]
    with torch.no_grad(), wrapped.trace(**inputs, use_cache=False):
        for path, place in places:
            visit(path, place.output.detach(), None)
        logits = nnsight.save(wrapped.output.logits)
    return logits  # noqa: RET504  # nnsight fills it in when the trace closes


def forward_and_backward(
    wrapped: NNsight,
    inputs: Mapping[str, Any],
    reads: Sequence[str],
    grads: frozenset[str],
    loss: Callable[[Tensor], Tensor],
    visit: Visit,
) -> Tensor:
    """Run one forward and one backward pass; gradients are handed over last layer first.

    Args:
        wrapped: the model as nnsight sees it.
        inputs: its inputs.
        reads: paths of the taps to read, in forward order.
        grads: those of them whose gradient is wanted too.
        loss: from the logits to a scalar.
        visit: called with path, value and None in forward order for a value without gradient, and with path, value and
            gradient in backward order for the others.

    Returns:
        The logits.
    """
    places = [(path, _at(wrapped, path)) for path in reads]
    with torch.enable_grad(), wrapped.trace(**inputs, use_cache=False):
        held = []
        for path, place in places:
            value = place.output
            if path in grads:
                held.append((path, value))
            else:
                visit(path, value.detach(), None)
        logits = nnsight.save(wrapped.output.logits)
        with loss(logits).backward():
            while held:
                path, value = held.pop()
                visit(path, value.detach(), value.grad)
    return logits.detach()
