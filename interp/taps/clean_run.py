"""The undisturbed pass beside one whose changes act behind clean keys: what it computes first, the other's rows see of each other."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from interp.interventions.base import Here
from interp.taps.running import Conversations, Pass, resumed

KEYS = frozenset({("decoder", "k"), ("decoder", "v")})
SEEN, CACHE = "keys and values of the undisturbed pass", "the cache of the undisturbed pass"


def beside(now: Pass) -> Pass | None:
    """Return the undisturbed pass that a pass needs; None where no change of it acts behind clean keys.

    It has the same tokens and all other changes but those that only look. The changes behind clean keys see it too, and leave it alone:
    what they take from the prompt is then the undisturbed prompt's.
    """
    if not any(c.behind_clean_keys for c in now.interventions):
        return None
    interventions = tuple(c for c in now.interventions if not c.read_only)
    roles = Conversations(now.roles.layouts)
    return Pass(roles, interventions, wanted=KEYS, reader=_note, places=now.places, beside=now.beside, undisturbed=True)


def read_ahead(module: nn.Module, inputs: Mapping[str, Any], now: Pass) -> None:
    """Run a model undisturbed where a pass without a cache needs it, before anything of that pass runs.

    Without this, the decoder does it by itself (`decode_ahead`). A trace of nnsight or layers that run twice must not see that.
    """
    if now.still is not None:
        _run(now, now.still, lambda: module(**inputs, use_cache=False))


def decode_ahead(decoder: nn.Module, now: Pass, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Run the decoder undisturbed, and return what the disturbed call is given instead; None where nothing is to be done.

    The undisturbed call appends to the cache; the disturbed one, to a copy of what that was.

    Raises:
        TypeError: a cache that is written in place.
    """
    if now.still is None or now.clean is not None:
        return None
    before = _snapshot(given.get("past_key_values"))
    output = _run(now, now.still, lambda: decoder(**given))
    now.still.state[CACHE] = getattr(output, "past_key_values", None)
    return {**given, "past_key_values": before}


def forget(now: Pass, output: Any) -> None:
    """Put the cache of the undisturbed call in the place of the disturbed one's, and its keys and values aside."""
    if now.still is None or CACHE not in now.still.state:
        return
    cache = now.still.state.pop(CACHE)
    now.clean = None
    if cache is not None:
        output.past_key_values = cache


def _run(now: Pass, still: Pass, call: Callable[[], Any]) -> Any:
    with torch.no_grad(), resumed(still):
        output = call()
    seen = still.state.pop(SEEN)
    now.clean = {layer: (seen["k", layer], seen["v", layer]) for site, layer in seen if site == "k"}
    return output


def _note(value: Tensor, here: Here) -> Tensor:
    """Keep all keys or values of a layer (batch, kv_head, key, head_dim)."""
    here.state.setdefault(SEEN, {})[here.site, here.layer] = value.transpose(1, 2)
    return value


def _snapshot(cache: Cache | None) -> Cache | None:
    """Return a cache that goes on from here by itself; tensors that are only ever replaced need no copy."""
    if cache is None:
        return None
    kinds = {type(layer) for layer in cache.layers} - {DynamicLayer, DynamicSlidingWindowLayer}
    if kinds:
        raise TypeError(
            f"a change behind clean keys needs a cache that is never written in place, but this {type(cache).__name__} has layers of "
            f"{', '.join(sorted(k.__name__ for k in kinds))}; leave cache_implementation out, or decode with use_cache=False"
        )
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own
