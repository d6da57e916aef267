"""Refuses interventions that can never act on a given model and its conversations."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch

from interp.data.layout import Layout
from interp.data.sites import INSIDE_ATTENTION
from interp.data.tokens import Segment, Tokens
from interp.interventions.base import Intervention

_OPTIONAL = (Segment.SYSTEM, Segment.USER, Segment.RESPONSE, Segment.PAD)
"""The segments that a conversation may lack: with a Q-Former it has no SYSTEM, without an answer no RESPONSE."""


@final
@dataclass(frozen=True)
class Scope:
    """The layers, heads, sites and tokens on which an intervention can act: those of a model and its conversations.

    Args:
        model: the model's name.
        layers: the number of layers of each of its parts.
        heads: the number of heads of a decoder layer.
        kv_heads: the number of its KV heads, the heads of keys and values.
        sites: the sites of the decoder.
        layouts: the conversations.
        new: how many tokens may be added to each.
    """

    model: str
    layers: Mapping[str, int]
    heads: int
    kv_heads: int
    sites: tuple[str, ...]
    layouts: tuple[Layout, ...]
    new: int = 0

    def check(self, intervention: Intervention) -> None:
        """Refuse an intervention that can never act, whatever the model answers.

        Raises:
            ValueError: a part, site, layer, head or position that does not exist, or a selection of nothing.
        """
        reason = self._place(intervention) or self._heads(intervention)
        if reason:
            raise ValueError(f"{intervention} {reason}")
        for selection in intervention.selections():
            for layout in self.layouts:
                try:
                    missed = self._missed(selection, layout)
                except IndexError as error:
                    raise ValueError(f"{intervention}: {error}") from error
                if missed:
                    raise ValueError(f"{intervention}: {missed}")

    def _place(self, intervention: Intervention) -> str | None:
        if intervention.part not in self.layers:
            return f"acts in the {intervention.part}, but {self.model} has only {', '.join(self.layers)}"
        sites = self.sites if intervention.part == "decoder" else INSIDE_ATTENTION
        if intervention.site not in sites:
            return (
                f"acts at {intervention.site}, but the {intervention.part} of {self.model} has only {', '.join(sites)}"
            )
        count = self.layers[intervention.part]
        beyond = [i for i in intervention.layers or () if i >= count]
        if beyond:
            return f"names layers {beyond}, but the {intervention.part} of {self.model} has layers 0..{count - 1}"
        if intervention.layers is not None and not len(intervention.layers):
            return "names no layer (layers=()), so it can never act; omit layers to use all of them"
        return None

    def _heads(self, intervention: Intervention) -> str | None:
        if intervention.heads is None:
            return None
        if not len(intervention.heads):
            return "names no head, so it can never act; omit heads to use all of them, if it has that default"
        if intervention.part != "decoder":
            return None
        count, kind = self.layers["decoder"], "KV heads" if intervention.site in ("k", "v") else "heads"
        heads = self.kv_heads if kind == "KV heads" else self.heads
        lacking = [p for p in intervention.heads if p[0] >= count or p[1] >= heads]
        if lacking:
            return f"names heads {lacking}, but {self.model} has layers 0..{count - 1} with {kind} 0..{heads - 1}"
        return None

    def _missed(self, which: Tokens, layout: Layout) -> str | None:
        """Return why a selection takes no token, now or later; None if it does, or would with a segment that a conversation may lack."""
        grown = layout.grown_to(len(layout) + self.new)
        if bool(which.mask(grown).any()):
            return None
        possible = torch.tensor([s.value for s in _OPTIONAL], device=grown.segment.device)
        if bool(which.mask(replace(grown, segment=torch.cat([grown.segment, possible]))).any()):
            return None
        there = ", ".join(f"{n} {s}" for s, n in Counter(layout.names).items())
        return (
            f"{which} takes no token of this conversation ({there}, at most {self.new} to come), "
            "so it can never act; choose tokens of the conversation"
        )
