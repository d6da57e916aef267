"""HALC: a noun of the reply is said again from several crops around what a detector finds under it."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from interp.data.layout import Box
from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import end_tokens, reply_of
from interp.decoding.stream import Continuation
from interp.interventions.base import Intervention
from interp.interventions.method import Method

OPTIONS = ("max_new_tokens", "min_new_tokens", "seed", "on_token")
"""The options of `generate` that this decoding loop knows."""
LONGEST = 8
"""After how many tokens a word is taken as complete."""


@final
@dataclass(frozen=True)
class Halc(Method):
    """Adaptive focal-contrast decoding: an adapter for detectors, scorers and taggers that this package does not bring.

    It has been tested with stand-ins for the three, never with real ones: take no figure from it before you have checked yours.

    A decoding loop. The model decodes greedily. When a word of the reply is complete and a noun, and the detector finds it in the
    image, the image is cropped to `views` boxes around the one found, each 1 + expand times as wide and high as the one before.
    The first token of the noun is read from each crop. Of the buffer / 2 pairs of crops whose distributions p, q differ most
    (Jensen-Shannon divergence), each gives two tokens, the likeliest by log p - alpha · log q and by log q - alpha · log p,
    among those with at least beta of the largest probability. Each is continued to the end of its word; of these words and the
    model's own, the one is kept with which the text so far has the best score against the image.

    Args:
        detect: from an image (PIL) and a noun to the box of pixels (x0, y0, x1, y1) it is in, or None; its threshold is its own
            (published: 0.4).
        score: from an image and a text to how well they match.
        is_noun: from the text so far and its last word to whether that is a noun.
        views: how many crops.
        expand: how much larger each is than the one before.
        buffer: how many candidate tokens.
        alpha: how far two crops are set apart.
        beta: the least share of the likeliest token's probability.

    References: Chen et al., HALC (ICML 2024), and its released code. Differs: one beam; the first crop is the box itself; no
    list of words that are left alone and no nouns skipped at random, both of which the release has.
    """

    detect: Callable[[Any, str], Box | None] | None = field(default=None)
    score: Callable[[Any, str], float] | None = field(default=None)
    is_noun: Callable[[str, str], bool] | None = field(default=None)
    views: int = 4
    expand: float = 0.6
    buffer: int = 6
    alpha: float = 0.05
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

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
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    @property
    def passes(self) -> int:
        """How many passes a token takes at most: those of a noun, its crops, and the words that they give."""
        return 1 + self.views + self.buffer * LONGEST

    def refusal(self, model: Any) -> str | None:
        """Say what is missing, and what to install for it."""
        if not model.family.image_token:
            return "it looks for nouns in an image, and this is a language model"
        missing = [n for n in ("detect", "score", "is_noun") if getattr(self, n) is None]
        if not missing:
            return None
        return (
            f"it needs {', '.join(missing)}, which interp does not bring: give functions as Halc says. Published are GroundingDINO "
            "or OWLv2 as the detector and BLIP as the scorer (pip install transformers torchvision), and spaCy as the tagger "
            "(pip install spacy && python -m spacy download en_core_web_sm)"
        )

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say which options this loop does not know."""
        unknown = sorted(set(options) - set(OPTIONS))
        if not unknown:
            return None
        return f"it decodes in its own way and does not know {', '.join(unknown)}; it knows {', '.join(OPTIONS)}"

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: it acts on the choice of tokens."""
        return ()

    @property
    def decodes(self) -> bool:
        """Whether this brings a decoding loop: yes."""
        return True

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return a reply whose nouns were looked at again, under some interventions and logits processors."""
        ends, limit = end_tokens(model), options.get("max_new_tokens", 128)
        least = MinNewTokensLengthLogitsProcessor(
            len(prompt), options.get("min_new_tokens") or 0, list(ends) or [0], model.device
        )
        line = _Line(self, model, prompt, interventions, LogitsProcessorList([*rules, least]))
        line.write(limit, ends)
        ids, logprobs = line.ids[:limit], line.logprobs[:limit]
        say: Callable[[str], None] | None = options.get("on_token")
        if say is not None:
            for token in ids:
                say(model.tokenizer.decode([token]))  # only now is it settled
        line.text.now.close()
        return reply_of(model, prompt, ids, logprobs, ends, tuple(line.text.now.audit), limit)

    def boxes(self, found: Box, size: tuple[int, int]) -> list[Box]:
        """Return the boxes of the crops around one, inside an image of (width, height)."""
        x, y = (found[0] + found[2]) / 2, (found[1] + found[3]) / 2
        halves = [
            ((found[2] - found[0]) / 2 * g, (found[3] - found[1]) / 2 * g)
            for g in ((1 + self.expand) ** i for i in range(self.views))
        ]
        wide, high = map(float, size)
        return [(max(x - w, 0.0), max(y - h, 0.0), min(x + w, wide), min(y + h, high)) for w, h in halves]

    def first_tokens(self, seen: Float[Tensor, "candidate vocab"]) -> list[int]:
        """Return the tokens that pairs of crops give, from the log-probabilities of each crop."""
        pairs = sorted(itertools.combinations(range(len(seen)), 2), key=lambda p: -divergence(seen[p[0]], seen[p[1]]))
        ways = [way for a, b in pairs[: self.buffer // 2] for way in ((a, b), (b, a))]
        plausible = [s >= s.max() + math.log(self.beta) for s in seen]
        chosen = [(seen[a] - self.alpha * seen[b]).masked_fill(~plausible[a], -torch.inf) for a, b in ways]
        return list(dict.fromkeys(int(c.argmax()) for c in chosen))


def divergence(p: Float[Tensor, " vocab"], q: Float[Tensor, " vocab"]) -> float:
    """Return the Jensen-Shannon divergence of two distributions given as log-probabilities, in nats: 0 to ln 2."""
    m = torch.logaddexp(p, q) - math.log(2)
    return float(((p.exp() * (p - m)).sum() + (q.exp() * (q - m)).sum()) / 2)


@final
class _Line:
    """One reply on its way: the model's continuation, and where its last word began."""

    def __init__(
        self,
        method: Halc,
        model: Any,
        prompt: Prompt,
        interventions: Sequence[Intervention],
        rules: LogitsProcessorList,
    ) -> None:
        self.method, self.model, self.prompt, self.interventions, self.rules = (
            method,
            model,
            prompt,
            interventions,
            rules,
        )
        self.text = Continuation(model, [prompt], interventions)
        self.start = model.inputs([prompt])["input_ids"]
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.before: list[Tensor] = []
        self.begin = 0

    @torch.no_grad()
    def write(self, limit: int, ends: set[int]) -> None:
        """Write until the reply ends or is long enough."""
        logits = self.text.read()
        while len(self.ids) < limit:
            token = self._likeliest(logits, self.ids)
            if self.begin < len(self.ids) and (token in ends or self._begins(token)):
                logits = self._looked_again(logits, limit)
                self.begin = len(self.ids)
                token = self._likeliest(logits, self.ids)
            logits = self._append(token, logits)
            if token in ends:
                return

    def _append(self, token: int, logits: Tensor) -> Tensor:
        """Write a token and return the logits of the next."""
        self.before.append(logits)
        self.logprobs.append(float(logits[0].log_softmax(-1)[token]))
        self.ids.append(token)
        return self.text.step(self.start.new_tensor([token]))

    def _likeliest(self, logits: Tensor, ids: Sequence[int]) -> int:
        whole = torch.cat([self.start, self.start.new_tensor([list(ids)], dtype=torch.long)], 1)
        return int(self.rules(whole, logits.clone()).argmax())

    def _begins(self, token: int) -> bool:
        """Say whether a token begins a new word, or is none."""
        piece = self.model.tokenizer.convert_ids_to_tokens(token)
        return not piece[0].isalnum() or piece[0] in "▁Ġ"

    def _looked_again(self, logits: Tensor, limit: int) -> Tensor:
        """Write the last word again where it is a noun that was found, and return the logits behind it."""
        own = self.ids[self.begin :]
        so_far, word = self._text(self.ids), self._text(own)
        if not self.method.is_noun(so_far, word):  # type: ignore[misc]  # refused where it is missing
            return logits
        image = self.prompt.images[0]
        found = self.method.detect(image, word)  # type: ignore[misc]
        if found is None:
            return logits
        crops = [image.crop(tuple(map(round, box))) for box in self.method.boxes(found, image.size)]
        kept = self.ids[: self.begin]
        seen = torch.stack([self._read(self.prompt.with_image(c), kept)[0].log_softmax(-1) for c in crops])
        words = [own, *(self._word(kept, t, limit) for t in self.method.first_tokens(seen))]
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
        """Return the logits behind a reply to a prompt."""
        return Continuation(self.model, [prompt.with_response(ids) if ids else prompt], self.interventions).read()

    def _word(self, kept: Sequence[int], first: int, limit: int) -> list[int]:
        """Return the word that a token begins behind some others, as the model goes on."""
        word, ends = [first], end_tokens(self.model)
        while len(word) < min(LONGEST, limit - len(kept)):
            token = self._likeliest(self._read(self.prompt, [*kept, *word]), [*kept, *word])
            if token in ends or self._begins(token):
                break
            word.append(token)
        return word

    def _text(self, ids: Sequence[int]) -> str:
        return self.model.tokenizer.decode(list(ids), skip_special_tokens=True).strip()
