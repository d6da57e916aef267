"""What there is to change, and the refusal of changes that can never reach any of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch

from interp.data.layout import Layout
from interp.data.tokens import Segment, Tokens
from interp.interventions.base import Intervention

INSIDE = ("q", "k", "v", "attn_scores", "pattern", "z")
"""The sites inside attention, which are all that parts other than the decoder have."""
MAY_LACK = (Segment.SYSTEM, Segment.USER, Segment.RESPONSE, Segment.PAD)
"""The segments that a conversation may rightly be without: a Q-Former's has no SYSTEM, an unanswered one no RESPONSE."""


@final
@dataclass(frozen=True)
class Reach:
    """A model and the conversations it will see.

    Args:
        model: the model's name.
        layers: the number of layers of each part it has.
        heads: the number of heads of a decoder layer.
        kv_heads: the number of its KV heads, which keys and values have.
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

    def check(self, change: Intervention) -> None:
        """Refuse a change that can never act, whatever the model answers.

        Raises:
            ValueError: a part, site, layer, head or position that is not there, or a choice that takes none of them.
        """
        reason = self._place(change) or self._heads(change)
        if reason:
            raise ValueError(f"{change} {reason}")
        for selection in change.selections():
            for layout in self.layouts:
                try:
                    missed = self._missed(selection, layout)
                except IndexError as error:
                    raise ValueError(f"{change}: {error}") from error
                if missed:
                    raise ValueError(f"{change}: {missed}")

    def _place(self, change: Intervention) -> str | None:
        if change.part not in self.layers:
            return f"acts in the {change.part}, but {self.model} has only {', '.join(self.layers)}"
        sites = self.sites if change.part == "decoder" else INSIDE
        if change.site not in sites:
            return f"acts at {change.site}, but the {change.part} of {self.model} has only {', '.join(sites)}"
        count = self.layers[change.part]
        beyond = [i for i in change.layers or () if i >= count]
        if beyond:
            return f"names layers {beyond}, but the {change.part} of {self.model} has layers 0..{count - 1}"
        if change.layers is not None and not len(change.layers):
            return "names no layer (layers=()), so it can never act; leave layers out for all of them"
        return None

    def _heads(self, change: Intervention) -> str | None:
        if change.heads is None:
            return None
        if not len(change.heads):
            return "names no head, so it can never act; leave heads out for all of them where it takes them all"
        if change.part != "decoder":
            return None
        count, kind = self.layers["decoder"], "KV heads" if change.site in ("k", "v") else "heads"
        heads = self.kv_heads if kind == "KV heads" else self.heads
        lacking = [p for p in change.heads if p[0] >= count or p[1] >= heads]
        if lacking:
            return f"names heads {lacking}, but {self.model} has layers 0..{count - 1} with {kind} 0..{heads - 1}"
        return None

    def _missed(self, which: Tokens, layout: Layout) -> str | None:
        """Say why a selection takes no token, now or later, even if the conversation had all that others have but images."""
        grown = layout.grown_to(len(layout) + self.new)
        if bool(which.mask(grown).any()):
            return None
        possible = torch.tensor([s.value for s in MAY_LACK], device=grown.segment.device)
        if bool(which.mask(replace(grown, segment=torch.cat([grown.segment, possible]))).any()):
            return None
        there = ", ".join(f"{n} {s}" for s, n in Counter(layout.names).items())
        return (
            f"{which} takes no token of this conversation ({there}, at most {self.new} to come), "
            "so it can never act; choose tokens that are there"
        )
