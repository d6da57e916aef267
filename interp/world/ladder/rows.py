"""Rows of the joint stages: one image prefix and several conversations behind it, or two images; and rows of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.world import wording
from interp.world.batches import IGNORED, other_system, text_row
from interp.world.forms import FORMS, PAIR_FORMS
from interp.world.ladder.config import RowSettings
from interp.world.processor import IMAGE_TOKENS
from interp.world.questions import KINDS, draw_question, view
from interp.world.scene import Scene
from interp.world.text import detailed_caption, guessed, short_caption
from interp.world.version import find_world

MIX: Final[tuple[tuple[str, float], ...]] = (
    ("existence", 0.3),
    ("colour", 0.08),
    ("where", 0.1),
    ("count", 0.1),
    ("place", 0.02),
    ("at", 0.1),
    ("order", 0.08),
    ("steps", 0.1),
    ("form position", 0.04),
    ("form color", 0.04),
    ("form count", 0.04),
)
"""Shares of the kinds of questions."""
PAIR_MIX: Final[tuple[tuple[str, float], ...]] = (
    ("existence", 0.35),
    ("which", 0.25),
    ("colour", 0.15),
    ("place", 0.1),
    ("caption", 0.15),
)
ATTEMPTS: Final = 14
"""Questions that are drawn for a row; those that do not fit any more are left out."""

Turn = tuple[str, str, float]
"""What is asked, what is answered, and the loss weight of the answer."""


@final
@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Every row has one prefix (system prompt and image) and behind it several conversations that do not see each other;
    each continues the positions of the prefix, so that training on one row is training on as many prompts. A second
    image counts as the rest of the prefix.

    Attributes:
        ids: Token ids.
        targets: The next token where it is an answer's, else `IGNORED`.
        weights: Loss weight of every target.
        positions: Rotary positions.
        allowed: Which key a query may attend to.
    """

    ids: Int[Tensor, "sample token"]
    targets: Int[Tensor, "sample token"]
    weights: Float[Tensor, "sample token"]
    positions: Int[Tensor, "sample token"]
    allowed: Bool[Tensor, "sample query key"]


@final
class RowMaker:
    """Turns scenes into rows; holds the tokenizer, the settings and the usual prefix."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, settings: RowSettings, *, version: int, carelessness: float
    ) -> None:
        """Encode the usual prefix once."""
        self.tokenizer, self.settings = tokenizer, settings
        self.world, self.carelessness = find_world(version), carelessness
        self.image = tokenizer.convert_tokens_to_ids("<image>")
        self.usual = self._prefix(wording.SYSTEM)
        self.prefix = len(self.usual)
        self.image_start = self.usual.index(self.image)
        self.length = self.prefix + settings.answers
        self.second = self._encode(f"{'<image>' * IMAGE_TOKENS}\n")

    def _prefix(self, system: str) -> list[int]:
        return self.tokenizer(f"{system} USER: {'<image>' * IMAGE_TOKENS}\n")["input_ids"]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def caption(self, generator: np.random.Generator, scene: Scene) -> Turn:
        """Draw a caption request with its answer; a careless one names a missing partner now and then."""
        if generator.random() < self.settings.detailed:
            asked = wording.DETAILED[generator.integers(len(wording.DETAILED))]
            guess = guessed(generator, scene.objects, self.carelessness)
            answer = detailed_caption(scene.place, scene.objects, guess=guess, world=self.world)
        else:
            asked = wording.SHORT[generator.integers(len(wording.SHORT))]
            answer = short_caption(scene.place, scene.objects, world=self.world)
        if generator.random() < 0.1:
            asked = asked[0].lower() + asked[1:]
        return asked, answer, 1.0

    def turns(self, generator: np.random.Generator, scene: Scene) -> list[Turn]:
        """Draw questions about a scene, mostly behind a caption, each with its answer and loss weight."""
        found = [self.caption(generator, scene)] if generator.random() < self.settings.captioned else []
        seen = view(scene.place, scene.objects, self.world)
        kinds, shares = zip(*MIX, strict=True)
        for index in generator.choice(len(kinds), ATTEMPTS, p=np.array(shares) / sum(shares)):
            kind = kinds[index]
            if kind in KINDS:
                question = draw_question(generator, seen, kind)
                weight = 1.0 if kind in ("order", "steps") else self.settings.short_answers
                if question:
                    found.append((wording.reword(generator, question), question.answer, weight))
            else:
                form = FORMS[kind.removeprefix("form ")](generator, seen)
                if form:
                    found.append((*form, self.settings.short_answers))
        return found

    def pair_turns(self, generator: np.random.Generator, pair: Sequence[Scene]) -> list[Turn]:
        """Draw questions about two images."""
        seen = [view(scene.place, scene.objects, self.world) for scene in pair]
        kinds, shares = zip(*PAIR_MIX, strict=True)
        drawn = generator.choice(len(kinds), ATTEMPTS, p=np.array(shares) / sum(shares))
        forms = [(kinds[index], PAIR_FORMS[kinds[index]](generator, seen)) for index in drawn]
        weight = self.settings.short_answers
        return [(*form, 1.0 if kind == "caption" else weight) for kind, form in forms if form]

    def row(self, generator: np.random.Generator, shown: Sequence[Scene]) -> tuple[np.ndarray, ...]:
        """Return ids, answer labels, weights, positions and conversation numbers of a row with one or two images."""
        ids = np.full(self.length, self.tokenizer.pad_token_id)
        labels, weights = np.full(self.length, IGNORED), np.ones(self.length, np.float32)
        positions, talk = np.zeros(self.length, np.int64), np.full(self.length, -1)
        usual = generator.random() >= self.settings.other_systems
        prefix = self.usual if usual else self._prefix(other_system(generator))
        turns = self.turns(generator, shown[0]) if len(shown) == 1 else self.pair_turns(generator, shown)
        start, at = self.prefix - len(prefix), self.prefix
        prefix = prefix + self.second * (len(shown) - 1)
        at += len(self.second) * (len(shown) - 1)
        ids[start:at], positions[start:at], talk[start:at] = prefix, np.arange(len(prefix)), 0
        place, number = len(prefix), 0
        for asked, answer, weight in turns:
            chained = number > 0 and generator.random() < self.settings.chained
            question = self._encode(f"USER: {asked} ASSISTANT:" if chained else f"{asked} ASSISTANT:")
            reply = [*self._encode(answer), self.tokenizer.eos_token_id]
            end = at + len(question) + len(reply)
            if end > self.length:
                continue
            number += not chained
            place = place if chained else len(prefix)
            ids[at:end], positions[at:end] = question + reply, place + np.arange(end - at)
            labels[at + len(question) : end], weights[at + len(question) : end] = reply, weight
            talk[at:end] = number
            place, at = place + end - at, end
        return ids, labels, weights, positions, talk

    def blind_row(self, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the same of a row of text without an image: every token is a target."""
        ids = np.array(text_row(generator, self.tokenizer, self.length, self.world))
        labels = np.where(ids == self.tokenizer.pad_token_id, IGNORED, ids)
        ones = np.ones(self.length, np.float32)
        return ids, labels, ones, np.arange(self.length), np.where(labels == IGNORED, -1, 0)

    def batch(self, generators: Sequence[np.random.Generator], shown: Sequence[Sequence[Scene]]) -> Batch:
        """Return one row per entry of one or two scenes; some of those with one are text instead."""
        made = [
            self.blind_row(generator)
            if len(scenes) == 1 and generator.random() < self.settings.blind
            else self.row(generator, scenes)
            for generator, scenes in zip(generators, shown, strict=True)
        ]
        ids, labels, weights, positions, talk = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        key, query = talk[:, None, :], talk[:, :, None]
        causal = torch.ones(self.length, self.length, dtype=torch.bool).tril()
        allowed = causal & (query >= 0) & ((key == 0) | (key == query)) & (key >= 0)
        targets, shifted = torch.full_like(labels, IGNORED), torch.ones_like(weights)
        targets[:, :-1], shifted[:, :-1] = labels[:, 1:], weights[:, 1:]
        return Batch(ids, targets, shifted, positions, allowed)
