"""A batch of prompts with a cache of its own, continued token by token: for a second stream, or a decoding loop."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin

from interp.data.prompt import Prompt
from interp.interventions.base import Intervention
from interp.models.model import Model
from interp.taps.running import activate

KEPT = "rope_deltas"
"""The attribute in which Qwen's vision-language models keep state on a module between steps."""


@final
class Continuation:
    """Some prompts as one left-padded batch, with a key-value cache and a running pass of their own.

    Between calls, the model holds none of its state, so another continuation, or `generate`, may run on the same model.

    Args:
        model: the model.
        prompts: one or more.
        interventions: the interventions on this batch alone.
        settings: more of `Pass`.
    """

    def __init__(
        self, model: Model, prompts: Sequence[Prompt], interventions: Sequence[Intervention] = (), **settings: Any
    ) -> None:
        """Prepare the inputs and the cache; nothing runs yet."""
        self.now = model.running(prompts, interventions, **settings)
        self.model = model
        self._inputs = model.inputs(prompts)
        self._mask = self._inputs["attention_mask"]
        self._cache = DynamicCache(config=model.text_config)
        self._keepers = [m for m in model.module.modules() if KEPT in vars(m)]
        self._own: list[Any] = [None for _ in self._keepers]
        self._decoder = _decoder(model)

    def read(self) -> Float[Tensor, "batch vocab"]:
        """Run the prompts and return the logits of the first new token."""
        last = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.model.module.forward).parameters else {}
        )
        return self._run(self.model.module, **self._inputs, **last)

    def step(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocab"]:
        """Append one token to each conversation and return the logits of the next."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(ids), 1)], 1)
        more: dict[str, Tensor] = {"input_ids": ids[:, None], "attention_mask": self._mask}
        offset = next((own for own in self._own if own is not None), None)
        counted = self.model.family.image_token is None or "position_ids" in self._inputs
        if counted or offset is not None:  # other models continue from the length of the cache, padding included
            more["position_ids"] = (self._mask.cumsum(-1) - 1)[:, -1:] + (0 if offset is None else offset)
        return self._run(self._decoder, **more)

    def select(self, rows: Int[Tensor, " batch"]) -> None:
        """Continue with some of the conversations, in this order; one may be repeated."""
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._own = [own if own is None or len(own) == 1 else own[rows] for own in self._own]

    def cut(self, tokens: int) -> None:
        """Remove the last tokens of every conversation."""
        if tokens:
            self._cache.crop(-tokens)
            self._mask = self._mask[:, :-tokens]

    def detach_cache(self) -> None:
        """Detach the cache from the graph of the last step, so that the next step treats it as a constant."""
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys.detach(), layer.values.detach()

    def _run(self, module: nn.Module, **inputs: Tensor | int) -> Tensor:
        with self._state(), activate(self.now):
            out = module(**inputs, past_key_values=self._cache, use_cache=True)
        return out.logits[:, -1].float()

    @contextmanager
    def _state(self) -> Iterator[None]:
        """Swap in this batch's state on the modules of the family, and restore the previous state afterwards."""
        # The offset of rotary positions lives on the module, not in the cache: without the swap, two streams would shift each other.
        theirs = [getattr(m, KEPT) for m in self._keepers]
        for module, own in zip(self._keepers, self._own, strict=True):
            setattr(module, KEPT, own)
        try:
            yield
        finally:
            self._own = [getattr(m, KEPT) for m in self._keepers]
            for module, before in zip(self._keepers, theirs, strict=True):
                setattr(module, KEPT, before)


def _decoder(model: Model) -> nn.Module:
    """Return the module that takes a single next token: the model, or its language model if the model requires an image."""
    pixels = inspect.signature(model.module.forward).parameters.get("pixel_values")
    if pixels is None or pixels.default is not inspect.Parameter.empty:
        return model.module
    inner = [
        m
        for n, m in model.module.named_modules()
        if n and model.family.decoder.startswith(n) and isinstance(m, GenerationMixin)
    ]
    return inner[0] if inner else model.module
