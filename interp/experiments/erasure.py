"""Exact head erasure on teacher-forced replies: what every head does to the probability of every token."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor
from tqdm import tqdm

from interp.analysis.sensitivity import Erasure
from interp.data import PREDICTING, Segment
from interp.heads import Heads
from interp.interventions.function import Apply
from interp.model import Model
from interp.prompt import Prompt
from interp.running import Pass, run
from interp.taps import tap_path

ROOM = 2**26
"""How many numbers the largest arrays of one tile may have together."""


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
    positions are the undisturbed model's. The rows of a reply do not touch each other then, so one pass over them alone serves all
    tokens. `at="all"` erases it at every position, prompt included. They answer different questions.

    For chosen heads together, in any verb and beside other changes, `AblateHeads(heads, at="step")` of `interp.interventions.heads`
    means the same.

    Layers below an erased head are taken from the undisturbed pass, and heads of a layer share passes as a batch.

    Args:
        model: the model.
        prompt: the conversation with its reply.
        at: where the head is erased.
        heads: which heads; all by default.
        tile: how many heads share a pass; what fits by default.
        progress: whether to show a bar.

    Raises:
        ValueError: no reply, no head, or heads that the model does not have.
        RuntimeError: the decoder does something between its layers that this cannot repeat.

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
    rest = _record(model, prompt, first=predicting[0] if at == "step" else 0, isolated=at == "step")
    size = tile or _tile(model, rest.rows, rest.keys)
    erased = torch.full((model.layers, model.heads, len(predicting)), torch.nan)
    with tqdm(total=len(chosen), desc=f"erase heads at {at}", disable=not progress, leave=False) as bar:
        for layer in chosen.layers:
            each = chosen.of_layer(layer)
            for start in range(0, len(each), size):
                some = each[start : start + size]
                erased[layer, list(some)] = rest.log_probabilities(layer, some)
                bar.update(len(some))
    positions = prompt.layout.positions(Segment.RESPONSE)
    return Erasure(erased, rest.clean, positions, tuple(prompt.tokens[p] for p in positions), at)


def _chosen(model: Model, heads: Heads | Iterable[tuple[int, int]] | None) -> Heads:
    if heads is None:
        return Heads(tuple((layer, head) for layer in range(model.layers) for head in range(model.heads)))
    chosen = heads if isinstance(heads, Heads) else Heads(tuple(heads))
    if not len(chosen):
        raise ValueError("no head was given; leave heads out for all of them")
    beyond = [(layer, head) for layer, head in chosen if layer >= model.layers or head >= model.heads]
    if beyond:
        raise ValueError(f"heads {beyond} are not there: {model.name} has {model.layers} layers of {model.heads} heads")
    return chosen


def _tile(model: Model, rows: int, keys: int) -> int:
    vocabulary = model.module.get_output_embeddings().weight.shape[0]
    return max(1, min(model.heads, ROOM // (rows * (2 * model.heads * keys + vocabulary + 8 * model.dim))))


@final
@dataclass
class _Rest:
    """The decoder from any layer on, over the rows from `first` to the one before the last, beside an undisturbed pass.

    Args:
        model: the model.
        prompt: the conversation.
        first: the first row that runs.
        isolated: whether rows see the undisturbed keys and values instead of each other's.
        arguments: what each layer was called with, cut to these rows.
        streams: the undisturbed stream that enters each layer, in these rows.
        between: what is added to the stream after each layer (deepstack features).
        cache: undisturbed keys and values of each layer.
        clean: the undisturbed log-probabilities of the reply, by the same arithmetic.
    """

    model: Model
    prompt: Prompt
    first: int
    isolated: bool
    arguments: list[dict[str, Any]]
    streams: list[Tensor]
    between: list[Tensor | None]
    cache: dict[int, tuple[Tensor, Tensor]]
    clean: Tensor

    @property
    def rows(self) -> int:
        """The number of rows that run."""
        return self.streams[0].shape[1]

    @property
    def keys(self) -> int:
        """The number of keys they see."""
        return self.first + self.rows

    def log_probabilities(self, layer: int, heads: tuple[int, ...]) -> Tensor:
        """Return (head, token): the log-probability of the reply's tokens with each of these heads of a layer erased."""

        def erase(z: Tensor, here: Any) -> Tensor:
            keep = torch.ones(len(heads), 1, z.shape[2], 1, dtype=z.dtype, device=z.device)
            keep[range(len(heads)), 0, list(heads)] = 0
            return z * keep

        return self._run(layer, len(heads), (Apply("z", erase, layers=(layer,)),))

    def undisturbed(self) -> Tensor:
        """Return (token): the log-probability of the reply's tokens with all heads in place."""
        return self._run(0, 1, ())[0]

    def _run(self, layer: int, batch: int, changes: tuple[Apply, ...]) -> Tensor:
        now: Pass = self.model.running([self.prompt], changes, clean=self.cache if self.isolated else None)
        stream = self.streams[layer].expand(batch, -1, -1)
        now.roles.advance(batch, self.first, self.rows, stream.device)
        with torch.no_grad(), run(now):
            for index in range(layer, self.model.layers):
                stream = _first(self.model.blocks[index](stream, **self.arguments[index]))
                added = self.between[index]
                stream = stream if added is None else stream + added
        told = torch.tensor(self.prompt.response_ids, device=stream.device)
        logits = self.model.unembed(stream[:, -len(told) :]).float()
        return logits.log_softmax(-1).gather(-1, told.expand(batch, -1)[..., None])[..., 0].cpu()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _record(model: Model, prompt: Prompt, *, first: int, isolated: bool) -> _Rest:
    """Run the model once, undisturbed, and note what each layer is given and returns."""
    given: list[dict[str, Any]] = []
    entered: list[Tensor] = []
    left: list[Tensor] = []
    seen: dict[tuple[str, int], Tensor] = {}
    sites = ("k", "v") if isolated else ()
    end = len(prompt) - 1

    def enter(module: Any, args: tuple, kwargs: dict) -> None:
        bound = (
            inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        )  # nnsight hides the instance's
        bound = {n: v for n, v in {**bound, **bound.pop("kwargs", {})}.items() if n != "self"}
        entered.append(bound.pop("hidden_states"))
        given.append(bound)

    with torch.no_grad(), _hooks() as hook:
        for index, block in enumerate(model.blocks):
            hook(block.register_forward_pre_hook(enter, with_kwargs=True))
            hook(block.register_forward_hook(lambda _, __, out: left.append(_first(out))))
            for site in sites:
                tap = model.module.get_submodule(tap_path(model.family, site, index))
                hook(tap.register_forward_hook(lambda _, __, out, key=(site, index): seen.update({key: out})))
        with run(model.running([prompt], wanted=frozenset(("decoder", site) for site in sites))):
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
        torch.empty(0),
    )
    rest.clean = rest.undisturbed()
    _check(rest, logits)
    return rest


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


def _check(rest: _Rest, logits: Tensor) -> None:
    """Refuse a decoder whose layers, called one by one, do not give the model's own log-probabilities."""
    told = torch.tensor(rest.prompt.response_ids, device=logits.device)
    wanted = logits[-len(told) - 1 : -1].float().log_softmax(-1).gather(-1, told[:, None])[:, 0].cpu()
    off = float((rest.clean - wanted).abs().max())
    if not off < (1e-3 if logits.dtype == torch.float32 else 0.25):
        raise RuntimeError(
            f"the layers of {rest.model.name} called one by one give log-probabilities that are off by {off:.3g}: its decoder does more "
            "between or after its layers than head erasure can repeat. Compare generate or capture with and without AblateHeads instead"
        )
