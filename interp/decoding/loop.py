"""The base of methods with a decoding loop of their own.

DecodingLoop: the base class. A subclass defines `search`; the options, the logits processors and the reply are handled here.
Decoding: what one call of `generate` gives to such a loop.
Search: what a subclass returns for it.
"""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import build_reply, end_tokens
from interp.decoding.stream import Continuation
from interp.interventions.base import Intervention
from interp.interventions.method import Method

LOOP_OPTIONS = ("max_new_tokens", "min_new_tokens", "seed", "on_token")
"""The options of `generate` that decoding loops support."""


@final
@dataclass(frozen=True, eq=False)
class Decoding:
    """One reply to decode.

    Args:
        model: the model.
        prompt: the prompt.
        interventions: the interventions on the model.
        rules: the logits processors.
        max_new_tokens: the largest number of new tokens.
        min_new_tokens: the smallest number of new tokens.
        seed: seed for sampling; None for torch's global generator.
    """

    model: Any
    prompt: Prompt
    interventions: tuple[Intervention, ...] = ()
    rules: tuple[Any, ...] = ()
    max_new_tokens: int = 128
    min_new_tokens: int | None = None
    seed: int | None = None

    @cached_property
    def ends(self) -> set[int]:
        """The tokens that end a reply."""
        return end_tokens(self.model)

    @cached_property
    def prompt_ids(self) -> Int[Tensor, "1 token"]:
        """The prompt's token ids, on the model's device."""
        return self.model.inputs([self.prompt])["input_ids"]

    @cached_property
    def _processors(self) -> LogitsProcessorList:
        least, ends = self.min_new_tokens or 0, list(self.ends)
        if not least or not ends:  # the processor refuses an empty list of end tokens
            return LogitsProcessorList(self.rules)
        shortest = MinNewTokensLengthLogitsProcessor(len(self.prompt), least, ends, self.model.device)
        return LogitsProcessorList([*self.rules, shortest])

    def continuation(self, **settings: Any) -> Continuation:
        """Return the model's continuation of the prompt under the interventions, with nothing run yet.

        Args:
            settings: more settings of the running pass, such as the sites to read.
        """
        return Continuation(self.model, [self.prompt], self.interventions, **settings)

    def process(
        self, reply: Int[Tensor, "candidate token"], logits: Float[Tensor, "candidate vocab"]
    ) -> Float[Tensor, "candidate vocab"]:
        """Return the next-token logits of some replies so far after all logits processors; the input is not modified."""
        whole = torch.cat([self.prompt_ids.expand(len(reply), -1), reply], 1)
        return self._processors(whole, logits.clone())


class Search(abc.ABC):
    """A decoding loop at work on one reply."""

    text: Continuation
    """The model's continuation of the prompt."""

    @abc.abstractmethod
    def tokens(self) -> Iterator[tuple[int, float]]:
        """Yield the tokens of the reply and the model's log-probabilities, each as soon as it is final."""


class DecodingLoop(Method):
    """The base of methods with a decoding loop of their own. They act on the choice of tokens and have no interventions."""

    procedure: ClassVar[str]
    """How the method decodes, as a noun phrase for error messages."""
    decodes = True

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return which options of `generate` this loop does not support."""
        unknown = sorted(set(options) - set(LOOP_OPTIONS))
        if not unknown:
            return None
        return (
            f"it decodes by {self.procedure}, without {', '.join(unknown)}; its options are {', '.join(LOOP_OPTIONS)}"
        )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none."""
        return ()

    @abc.abstractmethod
    def search(self, decoding: Decoding) -> Search:
        """Return the loop that decodes one reply, not yet started."""

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return the reply that this method's loop decodes under some interventions and logits processors."""
        on_token: Callable[[str], None] | None = options.pop("on_token", None)
        decoding = Decoding(model, prompt, tuple(interventions), tuple(rules), **options)
        search, ids, logprobs = self.search(decoding), list[int](), list[float]()
        for token, logprob in search.tokens():
            ids.append(token)
            logprobs.append(logprob)
            if on_token is not None:
                on_token(model.tokenizer.decode([token]))
        search.text.now.close()
        audit = tuple(search.text.now.audit)
        return build_reply(model, prompt, ids, logprobs, decoding.ends, audit, decoding.max_new_tokens)
