"""Exact head erasure on teacher-forced replies: the effect of every head on the probability of every token.

`erase_heads` runs the model once, keeps what enters each layer, and reruns only the layers from the erased head on, many heads as a batch.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from interp.analysis.sensitivity import Erasure
from interp.data.heads import Heads
from interp.data.prompt import Prompt
from interp.data.tokens import PREDICTING, Segment
from interp.models.model import Model
from interp.passes.checkpointing import running_as
from interp.passes.row_subset import restrict_rows
from interp.taps.install import tap_path
from interp.taps.running import Pass, run_pass
from interp.taps.state import GivenKeys

_MOST_ENTRIES = 2**24
"""The largest number of entries of an array of one tile: 64 MiB in float32."""


def erase_heads(
    model: Model,
    prompt: Prompt,
    *,
    at: Literal["step", "all"] = "step",
    heads: Heads | Iterable[tuple[int, int]] | None = None,
    tile: int | None = None,
    progress: bool = False,
) -> Erasure:
    """Return the log-probability of every token of a reply with each head erased in turn: its z is set to 0.

    `at="step"` erases the head in the row that predicts the token, as decoding with a cache does: keys and values of all other
    positions are those of a clean run. The rows of a reply are then independent of each other, so one pass over them alone serves
    all tokens. `at="all"` erases it at every position, prompt included. The two answer different questions.

    The intervention `AblateHeads(heads, at="step")` of `interp.interventions.heads` does the same to several heads together, in any
    verb and combined with other interventions.

    Layers below an erased head are taken from the clean run, and heads of a layer share passes as a batch.

    Args:
        model: the model.
        prompt: the conversation with its reply.
        at: where the head is erased.
        heads: the heads; all by default.
        tile: the number of heads per pass; as many as fit by default.
        progress: whether to show a bar.

    Raises:
        ValueError: no reply, no head, or heads that the model does not have.
        RuntimeError: the decoder computes something between its layers that cannot be repeated here.

    References: Yang et al., AD-HH (2025), `identify_attention_head`; AIR supplement A.1. Differs: AD-HH erases the whole prompt's
    heads at the first generated token; `at="step"` erases the predicting row there, as everywhere, also where earlier tokens of the
    prompt could see that row (PaliGemma).
    """
    if not prompt.response_ids:
        raise ValueError("head erasure needs a teacher-forced reply: prompt.with_response(reply)")
    if at not in ("step", "all"):
        raise ValueError(f"at is 'step' or 'all', got {at!r}")
    chosen = _chosen(model, heads)
    predicting = prompt.layout.positions(PREDICTING)
    rest, told = _record(model, prompt, first=predicting[0] if at == "step" else 0, isolated=at == "step")
    tiles = _tiles(chosen, tile or _tile(model, rest))
    erased = torch.full((model.layers, model.heads, len(predicting)), torch.nan)
    clean = torch.empty(0)
    with tqdm(total=len(chosen), desc=f"erase heads at {at}", disable=not progress, leave=False) as bar:
        for layer, some in tiles:
            beside = () if len(clean) else (None,)  # the clean reply by the same arithmetic, once
            found = rest.log_probabilities(layer, (*some, *beside))
            if beside:
                clean = found[-1]
                _check(model, clean, told)
            erased[layer, list(some)] = found[: len(some)]
            bar.update(len(some))
    positions = prompt.layout.positions(Segment.RESPONSE)
    return Erasure(erased, clean, positions, tuple(prompt.tokens[p] for p in positions), at)


def _tiles(chosen: Heads, size: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return the passes: up to `size` heads of one layer each."""
    each = {layer: chosen.of_layer(layer) for layer in chosen.layers}
    return [(layer, h[start : start + size]) for layer, h in each.items() for start in range(0, len(h), size)]


def _chosen(model: Model, heads: Heads | Iterable[tuple[int, int]] | None) -> Heads:
    if heads is None:
        return Heads(tuple((layer, head) for layer in range(model.layers) for head in range(model.heads)))
    chosen = heads if isinstance(heads, Heads) else Heads(tuple(heads))
    if not len(chosen):
        raise ValueError("no head was given; leave heads out to erase each of them")
    beyond = [(layer, head) for layer, head in chosen if layer >= model.layers or head >= model.heads]
    if beyond:
        raise ValueError(f"heads {beyond} are not there: {model.name} has {model.layers} layers of {model.heads} heads")
    return chosen


def _tile(model: Model, rest: "_Rest") -> int:
    vocabulary = model.module.get_output_embeddings().weight.shape[0]
    scores = (
        model.heads * rest.keys if rest.isolated else 0
    )  # rows that see each other use the fast attention, which stores no scores
    largest = rest.rows * max(scores, vocabulary, 4 * model.dim)
    return max(1, min(model.heads, _MOST_ENTRIES // largest))


@final
@dataclass
class _Rest:
    """The decoder from any layer on, over the rows from `first` to the one before the last, with the keys and values of a clean run.

    Args:
        model: the model.
        prompt: the conversation.
        first: the first row that runs.
        isolated: whether rows see the keys and values of the clean run instead of each other's.
        arguments: the arguments of each layer, cut to these rows.
        streams: the clean residual stream that enters each layer, in these rows.
        between: what is added to the stream after each layer (deepstack features).
        cache: the clean keys and values of each layer.
        written: the head outputs of each layer.
    """

    model: Model
    prompt: Prompt
    first: int
    isolated: bool
    arguments: list[dict[str, Any]]
    streams: list[Tensor]
    between: list[Tensor | None]
    cache: dict[int, tuple[Tensor, Tensor]]
    written: "list[_Written]"

    @property
    def rows(self) -> int:
        """The number of rows that run."""
        return self.streams[0].shape[1]

    @property
    def keys(self) -> int:
        """The number of keys they see."""
        return self.first + self.rows

    def log_probabilities(self, layer: int, heads: tuple[int | None, ...]) -> Tensor:
        """Return (head, token): the log-probability of the reply's tokens with each of these heads of a layer erased; None erases none.

        The outputs of the other heads of the layer do not change, so its attention is not computed again.
        """
        now: Pass = self.model.running([self.prompt], (), clean=GivenKeys(self.cache) if self.isolated else None)
        stream = self.streams[layer].expand(len(heads), -1, -1)
        now.advance(len(heads), self.first, self.rows, stream.device)
        blocks, family, reply = self.model.blocks, self.model.family, len(self.prompt.response_ids)
        attention, end = blocks[layer].get_submodule(family.attention), blocks[-1].get_submodule(family.mlp_out)
        read = range(self.rows - reply, self.rows)
        with torch.no_grad(), run_pass(now), restrict_rows(end, read, values=False):
            instead = self.written[layer].without(heads, self.model.heads)
            with running_as(attention, lambda *_, **__: instead):
                stream = self._through(layer, stream)
            for index in range(layer + 1, self.model.layers):
                stream = self._through(index, stream)
        told = torch.tensor(self.prompt.response_ids, device=stream.device)
        logits = self.model.unembed(stream[:, -reply:]).float()
        return logits.log_softmax(-1).gather(-1, told.expand(len(heads), -1)[..., None])[..., 0].cpu()

    def _through(self, layer: int, stream: Tensor) -> Tensor:
        stream = _first(self.model.blocks[layer](stream, **self.arguments[layer]))
        added = self.between[layer]
        return stream if added is None else stream + added


@final
@dataclass(frozen=True)
class _Written:
    """The outputs of the heads of one layer, and the projection that combines them.

    Args:
        z: the outputs side by side (1, row, head × head_dim).
        projection: the output projection.
        beside: what the attention module returns after its output; None if it returns the output alone.
    """

    z: Tensor
    projection: nn.Module
    beside: tuple[Any, ...] | None

    def without(self, heads: tuple[int | None, ...], count: int) -> Any:
        """Return the result of the attention module with each of some heads erased, as a batch."""
        keep = torch.ones(len(heads), 1, count, 1, dtype=self.z.dtype, device=self.z.device)
        for index, head in enumerate(heads):
            if head is not None:
                keep[index, 0, head] = 0
        output = self.projection((self.z.unflatten(-1, (count, -1)) * keep).flatten(2))
        return output if self.beside is None else (output, *self.beside)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _record(model: Model, prompt: Prompt, *, first: int, isolated: bool) -> tuple[_Rest, Tensor]:
    """Run the model once without interventions; record inputs and outputs of each layer, and the log-probabilities of the reply."""
    given: list[dict[str, Any]] = []
    entered: list[Tensor] = []
    left: list[Tensor] = []
    written: list[_Written] = []
    ran: list[tuple[nn.Module, Tensor, Any]] = []
    seen: dict[tuple[str, int], Tensor] = {}
    sites = ("k", "v") if isolated else ()
    end = len(prompt) - 1

    def enter(module: Any, args: tuple, kwargs: dict) -> None:
        # of the class, because nnsight replaces the signature of the instance
        bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        bound = {n: v for n, v in {**bound, **bound.pop("kwargs", {})}.items() if n != "self"}
        entered.append(bound.pop("hidden_states"))
        given.append(bound)

    def part(module: nn.Module, args: tuple, output: Any) -> None:
        ran.append((module, args[0] if args else torch.empty(0), output))

    def attended(module: nn.Module, _: Any, output: Any) -> None:
        written.append(_written(module, ran, output, first, end))
        ran.clear()

    with torch.no_grad(), _hooks() as hook:
        for index, block in enumerate(model.blocks):
            hook(block.register_forward_pre_hook(enter, with_kwargs=True))
            hook(block.register_forward_hook(lambda _, __, out: left.append(_first(out))))
            attention = block.get_submodule(model.family.attention)
            hook(attention.register_forward_hook(attended))
            for child in attention.children():
                hook(child.register_forward_hook(part))
            for site in sites:
                tap = model.module.get_submodule(tap_path(model.family, site, index))
                hook(tap.register_forward_hook(lambda _, __, out, key=(site, index): seen.update({key: out})))
        with run_pass(model.running([prompt], reads=frozenset(("decoder", site) for site in sites))):
            logits = model.module(**model.inputs([prompt]), use_cache=False).logits[0]
    added = [e - le for e, le in zip(entered[1:], left[:-1], strict=True)]
    rest = _Rest(
        model,
        prompt,
        first,
        isolated,
        [{n: _cut(n, v, len(prompt), first, end) for n, v in a.items()} for a in given],
        [e[:, first:end] for e in entered],
        [a[:, first:end] if bool(a[:, first:end].any()) else None for a in added] + [None],
        {
            i: (seen["k", i][:, :end].transpose(1, 2), seen["v", i][:, :end].transpose(1, 2))
            for i in range(model.layers)
            if isolated
        },
        written,
    )
    told = torch.tensor(prompt.response_ids, device=logits.device)
    return rest, logits[-len(told) - 1 : -1].float().log_softmax(-1).gather(-1, told[:, None])[:, 0].cpu()


def _written(
    module: nn.Module, ran: list[tuple[nn.Module, Tensor, Any]], output: Any, first: int, end: int
) -> _Written:
    """Return the head outputs: the input of that part of an attention module whose output it returned."""
    returned = _first(output)
    made = [(p, z) for p, z, out in ran if isinstance(out, Tensor) and out.data_ptr() == returned.data_ptr()]
    if not made:
        raise RuntimeError(
            f"{type(module).__name__} returns an output that no part of it computed, so the contribution of single heads is unknown. "
            "Compare generate or capture with and without AblateHeads instead"
        )
    projection, z = made[0]
    z = z.reshape(*returned.shape[:-1], -1)[:, first:end]
    return _Written(z, projection, output[1:] if isinstance(output, tuple) else None)


@contextmanager
def _hooks() -> Iterator[Callable[[Any], None]]:
    """Collect hooks, and take them off at the end whatever happens."""
    handles: list[Any] = []
    try:
        yield handles.append
    finally:
        for handle in handles:
            handle.remove()


def _cut(name: str, value: Any, length: int, first: int, end: int) -> Any:
    """Return a layer's argument for the rows from `first` to `end` alone."""
    if isinstance(value, tuple):
        return tuple(_cut(name, v, length, first, end) for v in value)
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    if "mask" in name:
        value = value[..., :end] if value.shape[-1] == length else value
        return value[..., first:end, :] if value.ndim > 1 and value.shape[-2] == length else value
    if value.ndim > 1 and value.shape[-2] == length:
        return value[..., first:end, :]
    return value[..., first:end] if value.shape[-1] == length else value


def _check(model: Model, clean: Tensor, told: Tensor) -> None:
    """Refuse a decoder whose layers, called one by one, do not reproduce the model's own log-probabilities."""
    off = float((clean - told).abs().max())
    if not off < (1e-3 if model.dtype == torch.float32 else 0.25):
        raise RuntimeError(
            f"the layers of {model.name} called one by one give log-probabilities that are off by {off:.3g}: its decoder does more "
            "between or after its layers than head erasure can repeat. Compare generate or capture with and without AblateHeads instead"
        )
