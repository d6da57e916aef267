"""Contrastive decoding: the base of methods that contrast the model with a second stream of its own.

SecondStream: the base class. A subclass builds the second stream; the rule on the next token follows from it.
ContrastProcessor: the Hugging Face logits processor that runs the second stream beside the first.
contrast_logits: the formula.
"""

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from interp.data.prompt import Prompt
from interp.decoding.stream import Continuation
from interp.interventions.base import Intervention
from interp.interventions.method import Method

NextLogits = Float[Tensor, "*batch vocab"]
Combine = Callable[[Tensor, Tensor, int], Tensor]
"""From the logits of both streams (batch, vocab) and the number of tokens generated so far to the logits that are used."""


class SecondStream(Method):
    """The base of methods that contrast two streams: the reply behind the prompt, and the same reply behind something else.

    The second stream has a cache and a running pass of its own: no intervention on the first stream reaches it.
    """

    alpha: float
    beta: float
    passes = 2

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return why options for beams or several replies are refused; None for other options."""
        several = [n for n in ("num_beams", "num_return_sequences") if (options.get(n) or 1) > 1]
        return (
            f"its second stream follows one reply a prompt, so leave out {' and '.join(several)}" if several else None
        )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: by default, the first stream runs without interventions."""
        return ()

    def rules(self, model: Any, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Return the logits processor that runs the second stream."""
        return (ContrastProcessor(self.stream(model, prompts), self.combine()),)

    @abc.abstractmethod
    def stream(self, model: Any, prompts: Sequence[Prompt]) -> Continuation:
        """Return the second stream, with nothing run yet."""

    def combine(self) -> Combine:
        """Return what combines the logits of both streams in one call of `generate`: by default `contrast_logits` at every step."""
        return constant_strength(self.alpha, self.beta)


def constant_strength(alpha: float, beta: float) -> Combine:
    """Return `contrast_logits` with the same strength at every step."""
    return lambda logits, others, step: contrast_logits(logits, others, alpha, beta)


def contrast_logits(
    logits: NextLogits, others: NextLogits, alpha: float | Float[Tensor, "*batch 1"], beta: float
) -> NextLogits:
    """Return (1 + alpha) · logits - alpha · others where logits ≥ max(logits) + ln(beta), and minus infinity elsewhere."""
    contrasted = (1 + alpha) * logits - alpha * others
    if beta == 0:  # ln 0: every token that the first stream admits; without this, -inf - (-inf) leaves a NaN
        return contrasted.masked_fill(logits == -torch.inf, -torch.inf)
    return contrasted.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(beta), -torch.inf)


def check_strength(alpha: float, beta: float) -> None:
    """Refuse a strength or plausibility bound out of range.

    Raises:
        ValueError: a negative alpha, or beta outside [0, 1].
    """
    if alpha < 0 or not 0 <= beta <= 1:
        raise ValueError(f"alpha is at least 0 and beta a share in [0, 1], got {alpha} and {beta}")


@final
class ContrastProcessor(LogitsProcessor):
    """The logits processor of one call of `generate`: runs a second stream in step with its replies.

    Args:
        other: the second stream, with nothing run yet.
        combine: combines the logits of both streams.
    """

    def __init__(self, other: Continuation, combine: Combine) -> None:
        """Start before the first token."""
        self.other, self.combine = other, combine
        self.step = 0

    def __call__(
        self, input_ids: Int[Tensor, "batch token"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Return the contrasted logits."""
        if len(input_ids) != len(self.other.now.state.roles.layouts):
            raise ValueError(
                f"the second stream follows {len(self.other.now.state.roles.layouts)} replies but {len(input_ids)} are decoded: "
                "contrastive decoding supports neither beams nor several replies to a prompt"
            )
        with torch.no_grad():  # a decoding loop that needs gradients (SGRS) calls this with gradients enabled
            others = self.other.step(input_ids[:, -1]) if self.step else self.other.read()
        self.step += 1
        return self.combine(scores, others.to(scores), self.step - 1)
