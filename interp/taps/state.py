"""What moves while a pass runs: the step, the conversations that grow with it, and what stateful interventions keep.

`PassState` is changed by its pass alone (`Pass.advance`) and by the interventions, which write into the scratch that `Here.state` gives
them.
"""

import abc
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from interp.data.layout import Layout
from interp.data.tokens import Tokens


@final
class Conversations:
    """The layouts of a batch, left-padded to one length, growing as the replies grow."""

    def __init__(self, layouts: tuple[Layout, ...]) -> None:
        """Take one layout a sample, without padding."""
        self.layouts = layouts
        longest = max((len(x) for x in layouts), default=0)
        self.pads = [longest - len(x) for x in layouts]
        self.past, self.length, self.batch, self.device = 0, longest, len(layouts), torch.device("cpu")

    def advance(self, batch: int, past: int, new: int, device: torch.device) -> None:
        """Take note of what one forward pass of the decoder is given: `new` tokens behind `past` cached ones."""
        self.past, self.length, self.batch, self.device = past, past + new, batch, device

    def mask(self, which: Tokens) -> Tensor:
        """Return which tokens a selection takes (batch, token), on the model's device; padding is never taken."""
        return self.mask_to(which, self.length).to(self.device)

    def mask_to(self, which: Tokens, length: int) -> Tensor:
        """Return which of the first `length` tokens a selection takes, on the CPU, as replies that go on to that length."""
        chosen = torch.zeros(len(self.layouts), length, dtype=torch.bool)
        for row, layout, pad in zip(chosen, self.layouts, self.pads, strict=True):
            known = length - pad if which.from_end else max(length - pad, which.reach)
            row[pad:] = which.mask(layout.grown_to(known))[: length - pad]
        # Beams and several replies to one prompt stand side by side in the batch.
        return chosen.repeat_interleave(self.batch // max(len(self.layouts), 1), 0)


@final
class PassState:
    """Step, conversations and scratch of one pass.

    Args:
        roles: the conversations.
        scratch: what interventions keep for each other's layers and steps; a new dictionary by default.
        shared: the scratch of interventions behind clean keys, which a clean run shares with the pass beside it.
    """

    def __init__(
        self,
        roles: Conversations,
        scratch: dict[Any, Any] | None = None,
        shared: dict[Any, Any] | None = None,
        *,
        step: int = -1,
    ) -> None:
        """Begin before the first forward call."""
        self.roles, self.step = roles, step
        self.scratch: dict[Any, Any] = {} if scratch is None else scratch
        self.shared: dict[Any, Any] = {} if shared is None else shared

    def advance(self, batch: int, past: int, new: int, device: torch.device) -> None:
        """Go on to the next forward call of the decoder."""
        self.step += 1
        self.roles.advance(batch, past, new, device)


class CleanKeys(abc.ABC):
    """Keys and values from a run without some interventions, which rows attend to in place of each other's."""

    @abc.abstractmethod
    def of(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values (batch, kv_head, key, head_dim) of a decoder layer; None where rows see each other's."""

    @abc.abstractmethod
    def prepare(self, decoder: Any, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Compute them before a call of the decoder; return what that call is given instead, None for no change."""

    @abc.abstractmethod
    def release(self, output: Any) -> None:
        """Put them aside after a call of the decoder."""


@final
class GivenKeys(CleanKeys):
    """Clean keys that were computed elsewhere.

    Args:
        known: keys and values by layer; a layer without an entry sees its own.
    """

    def __init__(self, known: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Take them as they are."""
        self.known = known

    def of(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of a decoder layer."""
        return self.known.get(layer)

    def prepare(self, decoder: Any, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Compute nothing."""
        return None

    def release(self, output: Any) -> None:
        """Keep them."""
