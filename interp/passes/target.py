"""What gradients are of: one token, every token of a reply, or any number made of the logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import Segment


@final
@dataclass(frozen=True)
class Position:
    """A target by its position in the conversation: the loss is -ln p(token at `at` | everything before), in nats.

    Args:
        at: the position of the token; the length of the prompt stands for the token that would come next.
        token: its id; the token that stands there by default.
    """

    at: int
    token: int | None = None


Target = int | Position | Callable[[Tensor], Tensor]
"""What gradients are of: a response token by its index, a position, or a function from logits (token, vocab) to a scalar."""


@final
@dataclass(frozen=True)
class TargetLoss:
    """A number made of the logits: nats, in float32, unless it is the user's own.

    Args:
        of: from the logits (row, vocab) of `rows` to a scalar.
        rows: the positions whose logits it reads; None for all.
    """

    of: Callable[[Tensor], Tensor]
    rows: tuple[int, ...] | None = None


def check_target(given: Any) -> Target | None:
    """Return a target; None stays None.

    Raises:
        TypeError: anything else than a target.
    """
    if given is not None and (
        isinstance(given, bool | type) or not (isinstance(given, int | Position) or callable(given))
    ):
        raise TypeError(
            "target: expected the index of a response token (target=0), interp.Position(at), or a function of the logits; "
            f"got {given!r:.80}"
        )
    return given


def loss_of(prompt: Prompt, target: Target | None, *, local: bool) -> TargetLoss:
    """Return the loss of a target, or with `local` the sum of those of every response token.

    Raises:
        ValueError: no target, one too many, or a prompt without a reply.
        IndexError: a token that is not there.
    """
    response = prompt.layout.positions(Segment.RESPONSE)
    if local:
        if target is not None or not response:
            raise ValueError(
                "gradient='position' is of every response token: give a prompt with a reply (prompt.with_response(...)) and no target"
            )
        return _surprisal(tuple(p - 1 for p in response), prompt.response_ids)
    if target is None:
        raise ValueError(
            "gradients need a target: a response token (target=0), interp.Position(at), or a function of the logits"
        )
    if not isinstance(target, int | Position):
        function = target
        return TargetLoss(lambda logits: _scalar(function(logits)))
    if isinstance(target, int):
        if not response:
            raise ValueError(
                "the target is a response token but the prompt has no reply; prompt.with_response(reply) adds one"
            )
        if not -len(response) <= target < len(response):
            raise IndexError(f"target {target} is outside the reply of {len(response)} tokens (0..{len(response) - 1})")
        target = Position(response[target])
    ids = prompt.ids
    if not 1 <= target.at <= len(ids) or (target.at == len(ids) and target.token is None):
        raise IndexError(
            f"position {target.at} cannot be a target in a conversation of {len(ids)} tokens: give 1..{len(ids) - 1}, "
            f"or {len(ids)} with a token"
        )
    return _surprisal((target.at - 1,), (ids[target.at] if target.token is None else target.token,))


def _surprisal(rows: tuple[int, ...], ids: tuple[int, ...]) -> TargetLoss:
    """Return the sum of -ln p of some tokens, each read in its own row."""

    def of(logits: Tensor) -> Tensor:
        which = torch.tensor(ids, device=logits.device)[:, None]
        return -logits.float().log_softmax(-1).gather(-1, which).sum()

    return TargetLoss(of, rows)


def _scalar(value: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"a target function returns one number computed from the logits, got {value!r:.80}")
    return value.reshape(())
