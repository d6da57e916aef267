"""HALC: decodes each noun of the reply again from several crops around the object that a detector finds for it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.data.layout import Box
from interp.data.prompt import Prompt
from interp.decoding.loop import Decoding, DecodingLoop, Search
from interp.decoding.stream import Continuation

LONGEST_WORD = 8
"""The largest number of tokens of a word."""


@final
@dataclass(frozen=True)
class Halc(DecodingLoop):
    """Adaptive focal-contrast decoding: an adapter for a detector, a scorer and a tagger, which this package does not include.

    It has been tested with stand-ins for the three, never with real ones: check your own before you report any result.

    A decoding loop. The model decodes greedily. When a word of the reply is complete and a noun, and the detector finds it in the
    image, the image is cropped to `views` boxes around the detected one, each 1 + expand times as wide and high as the one before.
    The first token of the noun is predicted from each crop. Of the buffer / 2 pairs of crops whose distributions p, q differ most
    (Jensen-Shannon divergence), each gives two tokens, the likeliest by log p - alpha · log q and by log q - alpha · log p,
    among those with at least beta of the largest probability. Each is continued to the end of its word. Of these words and the
    model's own, the one with the best score of the text so far against the image is kept.

    Args:
        detect: from an image (PIL) and a noun to the pixel box (x0, y0, x1, y1) of its object, or None; it applies a threshold of its
            own (published: 0.4).
        score: from an image and a text to how well they match.
        is_noun: from the text so far and its last word to whether that word is a noun.
        views: number of crops.
        expand: relative growth from one crop to the next.
        buffer: number of candidate tokens.
        alpha: strength of the contrast between two crops.
        beta: plausibility bound: the smallest probability of an admissible token, as a share of the largest one.

    References: Chen et al., HALC (ICML 2024), and its released code. Differs: one beam; the first crop is the box itself; neither
    the list of exempt words nor the random skipping of nouns of the release.
    """

    detect: Callable[[Any, str], Box | None] | None = field(default=None)
    score: Callable[[Any, str], float] | None = field(default=None)
    is_noun: Callable[[str, str], bool] | None = field(default=None)
    views: int = 4
    expand: float = 0.6
    buffer: int = 6
    alpha: float = 0.05
    beta: float = 0.1
    procedure: ClassVar[str] = "greedy decoding with corrected nouns"
    on_image: ClassVar[str] = "it searches an image for nouns"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: fewer than two crops or candidates, crops that do not grow, a negative alpha, or beta outside (0, 1].
        """
        if self.views < 2 or self.buffer < 2 or self.expand <= 0:
            raise ValueError(
                "HALC takes at least two views and a buffer of at least two, and an expansion above 0, "
                f"got {self.views}, {self.buffer} and {self.expand}"
            )
        if self.alpha < 0 or not 0 < self.beta <= 1:
            raise ValueError(f"alpha is at least 0 and beta a share in (0, 1], got {self.alpha} and {self.beta}")

    @property
    def passes(self) -> int:
        """Those of a noun: its own, those of its crops, and those of the words that they give."""
        return 1 + self.views + self.buffer * LONGEST_WORD

    def obstacle(self, model: Any) -> str | None:
        """Return which functions are missing, and what to install for them."""
        missing = [n for n in ("detect", "score", "is_noun") if getattr(self, n) is None]
        if not missing:
            return None
        return (
            f"it needs {', '.join(missing)}, which interp does not include: see the docstring of Halc. The paper uses GroundingDINO "
            "or OWLv2 as the detector and BLIP as the scorer (pip install transformers torchvision), and spaCy as the tagger "
            "(pip install spacy && python -m spacy download en_core_web_sm)"
        )

    def search(self, decoding: Decoding) -> Search:
        """Return the greedy decoding with corrected nouns."""
        return _Correction(self, decoding)

    def boxes(self, box: Box, size: tuple[int, int]) -> list[Box]:
        """Return the boxes of the crops around a detected box, inside an image of (width, height)."""
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        halves = [
            ((box[2] - box[0]) / 2 * g, (box[3] - box[1]) / 2 * g)
            for g in ((1 + self.expand) ** i for i in range(self.views))
        ]
        wide, high = map(float, size)
        return [(max(x - w, 0.0), max(y - h, 0.0), min(x + w, wide), min(y + h, high)) for w, h in halves]

    def first_tokens(self, seen: Float[Tensor, "candidate vocab"]) -> list[int]:
        """Return the candidate tokens of the most different pairs of crops, from the log-probabilities for each crop."""
        pairs = sorted(
            itertools.combinations(range(len(seen)), 2), key=lambda p: -jensen_shannon(seen[p[0]], seen[p[1]])
        )
        ways = [way for a, b in pairs[: self.buffer // 2] for way in ((a, b), (b, a))]
        plausible = [s >= s.max() + math.log(self.beta) for s in seen]
        chosen = [(seen[a] - self.alpha * seen[b]).masked_fill(~plausible[a], -torch.inf) for a, b in ways]
        return list(dict.fromkeys(int(c.argmax()) for c in chosen))


def jensen_shannon(p: Float[Tensor, " vocab"], q: Float[Tensor, " vocab"]) -> float:
    """Return the Jensen-Shannon divergence of two distributions given as log-probabilities, in nats: 0 to ln 2."""
    m = torch.logaddexp(p, q) - math.log(2)
    return float(((p.exp() * (p - m)).sum() + (q.exp() * (q - m)).sum()) / 2)


@final
class _Correction(Search):
    """One reply: the model's continuation, and where its last word began."""

    def __init__(self, method: Halc, decoding: Decoding) -> None:
        self.method, self.decoding = method, decoding
        self.model, self.prompt = decoding.model, decoding.prompt
        self.text = decoding.continuation()
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.before: list[Tensor] = []
        self.begin = 0

    def tokens(self) -> Iterator[tuple[int, float]]:
        """Yield the reply's tokens and their log-probabilities, once the reply has ended."""
        self._write()
        limit = self.decoding.max_new_tokens
        yield from zip(self.ids[:limit], self.logprobs[:limit], strict=True)

    @torch.no_grad()
    def _write(self) -> None:
        """Decode until the reply ends or is long enough."""
        logits, ends = self.text.read(), self.decoding.ends
        while len(self.ids) < self.decoding.max_new_tokens:
            token = self._likeliest(logits, self.ids)
            if self.begin < len(self.ids) and (token in ends or self._begins(token)):
                logits = self._correct(logits)
                self.begin = len(self.ids)
                token = self._likeliest(logits, self.ids)
            logits = self._append(token, logits)
            if token in ends:
                return

    def _append(self, token: int, logits: Tensor) -> Tensor:
        """Append a token and return the logits of the next."""
        self.before.append(logits)
        self.logprobs.append(float(logits[0].log_softmax(-1)[token]))
        self.ids.append(token)
        return self.text.step(self.decoding.prompt_ids.new_tensor([token]))

    def _likeliest(self, logits: Tensor, ids: Sequence[int]) -> int:
        reply = self.decoding.prompt_ids.new_tensor([list(ids)], dtype=torch.long)  # the type of an empty list is float
        return int(self.decoding.process(reply, logits).argmax())

    def _begins(self, token: int) -> bool:
        """Return whether a token begins a new word, or is not part of one."""
        piece = self.model.tokenizer.convert_ids_to_tokens(token)
        return not piece[0].isalnum() or piece[0] in "▁Ġ"

    def _correct(self, logits: Tensor) -> Tensor:
        """Decode the last word again where it is a noun that the detector finds, and return the logits after it."""
        own = self.ids[self.begin :]
        so_far, word = self._text(self.ids), self._text(own)
        if not self.method.is_noun(so_far, word):  # type: ignore[misc]  # `obstacle` refuses None
            return logits
        image = self.prompt.images[0]
        box = self.method.detect(image, word)  # type: ignore[misc]
        if box is None:
            return logits
        crops = [image.crop(tuple(map(round, b))) for b in self.method.boxes(box, image.size)]
        kept = self.ids[: self.begin]
        predicted = torch.stack([self._read(self.prompt.with_image(c), kept)[0].log_softmax(-1) for c in crops])
        words = [own, *(self._word(kept, t) for t in self.method.first_tokens(predicted))]
        best = max(words, key=lambda w: self.method.score(image, self._text([*kept, *w])))  # type: ignore[misc]
        if best == own:
            return logits
        logits = self.before[self.begin]
        self.text.cut(len(own))
        del self.ids[self.begin :], self.logprobs[self.begin :], self.before[self.begin :]
        for token in best:
            logits = self._append(token, logits)
        return logits

    def _read(self, prompt: Prompt, ids: Sequence[int]) -> Tensor:
        """Return the logits after a reply to a prompt."""
        return Continuation(
            self.model, [prompt.with_response(ids) if ids else prompt], self.decoding.interventions
        ).read()

    def _word(self, kept: Sequence[int], first: int) -> list[int]:
        """Return the word that the model decodes from a first token after some others."""
        word = [first]
        while len(word) < min(LONGEST_WORD, self.decoding.max_new_tokens - len(kept)):
            token = self._likeliest(self._read(self.prompt, [*kept, *word]), [*kept, *word])
            if token in self.decoding.ends or self._begins(token):
                break
            word.append(token)
        return word

    def _text(self, ids: Sequence[int]) -> str:
        return self.model.tokenizer.decode(list(ids), skip_special_tokens=True).strip()
