"""Labels of the tokens of a reply: which ones mention an object that is in the image, and which one that is not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.data.prompt import Reply


@final
@dataclass(frozen=True)
class TokenLabels:
    """The tokens of a reply that belong to mentions of objects; tokens in neither mask belong to no mention.

    Args:
        hallucinated: tokens of mentions of absent objects.
        correct: tokens of mentions of objects that are in the image.
    """

    hallucinated: Bool[Tensor, " token"]
    correct: Bool[Tensor, " token"]

    @property
    def labelled(self) -> Bool[Tensor, " token"]:
        """The tokens of any mention; `compare_groups` takes a score and `hallucinated`, both restricted to these tokens."""
        return self.hallucinated | self.correct


def token_labels(
    reply: Reply, mentions: Iterable[tuple[int, int, bool]], tokenizer: Any, *, whole: bool = False
) -> TokenLabels:
    """Return the labels of the tokens of a reply, from its mentions.

    The masks run over `reply.ids`, like scores of a reply's tokens.

    Args:
        reply: the reply.
        mentions: first character, end, and whether it is hallucinated, of every mention in `reply.text`: see `Benchmark.labels`.
        tokenizer: the model's (`model.tokenizer`).
        whole: whether to label every token of a mention; by default only the first one, at which the model decides on the word.

    Raises:
        ValueError: a mention outside the text.
    """
    spans = token_spans(reply, tokenizer)
    marks = [torch.zeros(len(reply.ids), dtype=torch.bool) for _ in range(2)]
    for start, end, hallucinated in mentions:
        if not 0 <= start < end <= len(reply.text):
            raise ValueError(f"a mention from {start} to {end} is not inside the text of {len(reply.text)} characters")
        touched = [i for i, (first, last) in enumerate(spans) if first < end and start < last]
        marks[0 if hallucinated else 1][touched if whole else touched[:1]] = True
    return TokenLabels(*marks)


def token_spans(reply: Reply, tokenizer: Any) -> Sequence[tuple[int, int]]:
    """Return the characters of `reply.text` that every token adds: start, end; empty for tokens that add none.

    Computed from the decoded prefixes of the reply, so that it is exact for the ids that the model chose, which a tokenizer may not
    reproduce from the text. A character made of several tokens belongs to the last of them.
    """
    texts = [tokenizer.decode(reply.ids[:i], skip_special_tokens=True) for i in range(len(reply.ids) + 1)]
    left = len(texts[-1]) - len(texts[-1].lstrip())
    ends = [_common(text, texts[-1]) - left for text in texts]
    ends = [min(max(end, 0), len(reply.text)) for end in ends]
    return [(a, max(a, b)) for a, b in pairwise(ends)]


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
