"""Gradient checkpointing by layer: every decoder layer runs twice, so that autograd never holds the graph of more than one.

The forward pass keeps what enters each layer. In the backward pass, from the last layer down, a layer runs once more from there, with
gradients; its values and gradients are handed over, and its graph is freed before that of the next one is made. What lies between the
layers, behind them and in the loss is differentiated as usual, so the numbers are those of the whole graph, bit for bit.

`torch.utils.checkpoint` would not do: it recomputes a layer when its first saved tensor is needed, and the values of the second run have
to be read with their gradients while that run's graph exists.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from interp.interventions.base import Intervention
from interp.interventions.function import Apply
from interp.interventions.here import Here
from interp.passes.delivery import Delivery
from interp.taps.running import Pass, activate

StreamToStream = Callable[[Tensor], Tensor]
"""A layer as a function of its stream alone."""
AROUND_LAYER = ("resid_pre", "resid_post")
"""The sites that are read as a layer is entered and left; all others lie inside it."""


class RepetitionError(RuntimeError):
    """A layer that ran once more came out differently, or would have."""


def repeatable(intervention: Intervention) -> bool:
    """Return whether an intervention does the same when it is called again: no function of the user's, and no random generator."""
    values = vars(intervention).values()
    return not isinstance(intervention, Apply) and not any(isinstance(v, torch.Generator) for v in values)


@final
class LayersApart(dict):  # type: ignore[type-arg]
    """The scratch of a pass in which no layer may use what another one left there.

    A layer that runs alone would find it missing, or find what a later layer left.
    """

    def __init__(self) -> None:
        """Start with nothing, before the first layer."""
        self.place: tuple[str, int] = ("before", 0)
        self.users: dict[Any, tuple[str, int]] = {}

    def _use(self, key: Any) -> Any:
        if self.users.setdefault(key, self.place) != self.place:
            raise RepetitionError(
                "an intervention keeps something from one layer for another, so no layer can run alone"
            )
        return key

    def __contains__(self, key: object) -> bool:
        """Return whether something is there."""
        return dict.__contains__(self, self._use(key))

    def __getitem__(self, key: Any) -> Any:
        """Return what is there."""
        return dict.__getitem__(self, self._use(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        """Put something there."""
        dict.__setitem__(self, self._use(key), value)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what is there, or something else."""
        return dict.get(self, self._use(key), default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return what is there, or put it there."""
        return dict.setdefault(self, self._use(key), default)


@final
@dataclass(frozen=True)
class Checkpointing:
    """A pass whose layers run twice.

    Args:
        delivery: is given every site and layer that the pass reads: in the forward pass the stream around a layer, in the backward pass
            everything inside it.
        scratch: the scratch of the pass.
    """

    delivery: Delivery
    scratch: LayersApart = field(default_factory=LayersApart)

    def read(self, value: Tensor, here: Here) -> Tensor:
        """Hand over what is read around the layers and in other parts; what is read inside a layer waits for its second run."""
        if here.part != "decoder" or here.site in AROUND_LAYER:
            return self.delivery(value, here)
        return value

    def run(
        self,
        module: nn.Module,
        blocks: Sequence[nn.Module],
        inputs: Mapping[str, Any],
        now: Pass,
        loss: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Run a model forward and backward.

        Args:
            module: the model.
            blocks: its decoder layers.
            inputs: its inputs.
            now: the running pass, with `read` as its reader and `scratch` as its scratch.
            loss: from the logits to a scalar.

        Returns:
            The logits.

        Raises:
            RepetitionError: an intervention keeps something from one layer for another, or changes a layer differently the second
                time; or a layer is given more than the stream that gradients would have to flow through.
        """
        with torch.enable_grad(), _each_apart(blocks, _Again(self, now)):
            logits = module(**inputs, use_cache=False).logits
            loss(logits).backward()
        return logits.detach()


@final
@dataclass(frozen=True)
class _Again:
    """How a layer is run a second time."""

    first: Checkpointing
    now: Pass

    def __call__(self, layer: int, block: StreamToStream, kept: tuple[Tensor, Tensor], slope: Tensor) -> Tensor:
        """Return the gradient of what entered a layer, given what entered and left it and the gradient of the latter."""
        inside = self.first.delivery.again()
        stream = kept[0].detach().requires_grad_()
        # The pass is made the running one here too: autograd may call from a thread of its own, where no pass runs.
        with torch.enable_grad(), activate(self.now.again(inside)):
            output = block(stream)
        if not _alike(output.detach(), kept[1]):
            raise RepetitionError(
                f"layer {layer} came out differently when it ran once more: an intervention draws random numbers or counts its calls"
            )
        (through,) = torch.autograd.grad(output, stream, slope)
        inside.finish()
        return through


class _Layer(torch.autograd.Function):
    """A layer as one operation: of its graph nothing is kept but what goes in and what comes out."""

    @staticmethod
    def forward(ctx: Any, stream: Tensor, layer: int, block: StreamToStream, again: _Again) -> Tensor:  # type: ignore[override]
        # In here autograd records nothing, so the first run makes no graph.
        again.first.scratch.place = ("in", layer)
        output = block(stream)
        again.first.scratch.place = ("behind", layer)
        ctx.save_for_backward(stream, output)
        ctx.layer, ctx.block, ctx.again = layer, block, again
        return output

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return ctx.again(ctx.layer, ctx.block, ctx.saved_tensors, slope), None, None, None


@contextmanager
def _each_apart(blocks: Sequence[nn.Module], again: _Again) -> Iterator[None]:
    """Let every layer be one operation for a while."""
    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            stack.enter_context(running_as(block, _apart(layer, block.forward, again)))
        yield


@contextmanager
def running_as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else while this is open; whatever happens inside, it is as before afterwards."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _apart(layer: int, forward: Callable[..., Any], again: _Again) -> Callable[..., Any]:
    def apart(*args: Any, **kwargs: Any) -> Any:
        stream, args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        beside = [n for n, v in [*enumerate(args, 1), *kwargs.items()] if isinstance(v, dict) or _flows(v)]
        if beside:
            raise RepetitionError(
                f"layer {layer} is given more than the stream by the layers before it (its arguments {beside})"
            )
        whole: list[Any] = []

        def block(stream: Tensor) -> Tensor:
            whole[:] = [forward(stream, *args, **kwargs)]
            return whole[0][0] if isinstance(whole[0], tuple) else whole[0]

        output = _Layer.apply(stream, layer, block, again)
        returned = whole.pop()
        return (output, *returned[1:]) if isinstance(returned, tuple) else output

    return apart


def _flows(value: Any) -> bool:
    """Return whether gradients would flow through something that a layer is given."""
    if isinstance(value, (tuple, list)):
        return any(map(_flows, value))
    return isinstance(value, Tensor) and value.requires_grad


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two runs differ by no more than the order of additions could make them."""
    slack = 16 * torch.finfo(other.dtype).eps * float(other.abs().max().nan_to_num(posinf=0.0))
    return torch.allclose(one, other, rtol=0, atol=slack, equal_nan=True)
