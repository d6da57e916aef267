"""Runs the model once without interventions that act behind clean keys, and keeps its keys and values.

Such interventions (`Intervention.behind_clean_keys`) must not see each other's effects: each changed row sees, of every position but its
own, the keys and values of this run. `CleanRun` runs the model and holds them; `read_ahead` does so for a whole pass before it begins.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from interp.interventions.here import Here
from interp.taps.running import Attachable, Pass, Reader, activate
from interp.taps.site_table import site_table
from interp.taps.spec import PassSpec
from interp.taps.state import CleanKeys, Conversations, PassState

KEYS_AND_VALUES = frozenset({("decoder", "k"), ("decoder", "v")})


@final
class CleanRun(CleanKeys):
    """The clean run beside a pass, and the keys and values of its latest forward call.

    Args:
        inner: makes the pass of the clean run, given its reader.
    """

    def __init__(self, inner: Callable[[Reader], Pass]) -> None:
        """Hold no keys yet."""
        self._seen: dict[tuple[str, int], Tensor] = {}
        self._keys: dict[int, tuple[Tensor, Tensor]] | None = None
        self._cache: Cache | None = None
        self._decoding = False
        self._inner = inner(self._read)

    def of(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of a decoder layer; None where no run holds any, as in the clean run itself."""
        return None if self._keys is None else self._keys[layer]

    def read_ahead(self, call: Callable[[], Any]) -> Any:
        """Run the model or its decoder without the interventions, and hold its keys and values."""
        with torch.no_grad(), activate(self._inner):
            output = call()
        seen, self._seen = self._seen, {}
        self._keys = {layer: (seen["k", layer], seen["v", layer]) for site, layer in seen if site == "k"}
        return output

    def prepare(self, decoder: Any, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Run the decoder without the interventions, unless `read_ahead` has; return what the call beside it is given instead.

        This run appends to the cache. The call with the interventions appends to a copy of what the cache was.

        Raises:
            TypeError: a cache that is written in place.
        """
        if self._keys is not None:
            return None
        before = _snapshot(given.get("past_key_values"))
        output = self.read_ahead(lambda: decoder(**given))
        self._decoding, self._cache = True, getattr(output, "past_key_values", None)
        return {**given, "past_key_values": before}

    def release(self, output: Any) -> None:
        """Put this run's cache in the place of the other call's, and keys and values aside."""
        if not self._decoding:
            return
        cache, self._cache, self._keys, self._decoding = self._cache, None, None, False
        if cache is not None:
            output.past_key_values = cache

    def _read(self, value: Tensor, here: Here) -> Tensor:
        """Keep all keys or values of a layer (batch, kv_head, key, head_dim)."""
        self._seen[here.site, here.layer] = value.transpose(1, 2)
        return value


def clean_run(
    spec: PassSpec, state: PassState, layers: Mapping[str, int], taps: Sequence[Attachable]
) -> CleanRun | None:
    """Return the clean run that a pass needs; None where no intervention of it acts behind clean keys.

    It has the same tokens and all other interventions but those that only observe. The interventions behind clean keys see its values
    too, and change nothing: what they take from the prompt is then the clean prompt's.

    Args:
        spec: of the pass.
        state: of the pass; the clean run shares what interventions behind clean keys keep.
        layers: the number of layers of every part of the model.
        taps: the taps on the residual stream.
    """
    if not any(c.behind_clean_keys for c in spec.interventions):
        return None
    inner = PassSpec(tuple(c for c in spec.interventions if not c.read_only), reads=KEYS_AND_VALUES, clean=True)
    own = PassState(Conversations(state.roles.layouts), shared=state.shared)
    return CleanRun(lambda reader: Pass(own, inner, site_table(inner, layers), reader, taps=taps))


def read_ahead(module: nn.Module, inputs: Mapping[str, Any], now: Pass) -> None:
    """Run a model clean where a pass without a cache needs it, before anything of that pass runs.

    Without this the decoder does it by itself (`CleanRun.prepare`), in the middle of its own call. A trace of nnsight and layers that run
    twice must not see that.
    """
    if isinstance(now.clean, CleanRun):
        now.clean.read_ahead(lambda: module(**inputs, use_cache=False))


def _snapshot(cache: Cache | None) -> Cache | None:
    """Return a cache that goes on from here by itself; tensors that are only ever replaced need no copy."""
    if cache is None:
        return None
    kinds = {type(layer) for layer in cache.layers} - {DynamicLayer, DynamicSlidingWindowLayer}
    if kinds:
        raise TypeError(
            f"an intervention behind clean keys needs a cache that is never written in place, but this {type(cache).__name__} has layers "
            f"of {', '.join(sorted(k.__name__ for k in kinds))}; leave cache_implementation out, or decode with use_cache=False"
        )
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own
