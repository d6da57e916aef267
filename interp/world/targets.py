"""What a model of the second world must be able to do, measured on held-out scenes and compared with the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import numpy as np
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interp.world.evaluation import BATCH, LONGEST, Pair, conversation, counter_prior, total
from interp.world.evidence import Inventions, measure_inventions
from interp.world.forms import FORMS, PAIR_FORMS
from interp.world.questions import KINDS, PROBES, Question, view
from interp.world.scene import Scene, scenes
from interp.world.scoring import (
    CaptionScores,
    Rate,
    YesNoScores,
    plain,
    rate,
    score_captions,
    score_yes_no,
    steps_in_order,
)
from interp.world.version import check_version, find_world
from interp.world.wording import DETAILED

SINGLE: Final = tuple(kind for kind in KINDS if kind not in ("existence", "steps"))
"""Kinds whose reply is compared with the answer as a whole."""


@final
@dataclass(frozen=True)
class Existence:
    """Existence questions.

    Attributes:
        scores: Accuracy and how the answers are spread.
        f1: Harmonic mean of precision and recall of the answer yes.
    """

    scores: YesNoScores
    f1: float


@final
@dataclass(frozen=True)
class Measured:
    """Everything that the targets are about; n scenes each.

    Attributes:
        existence: By probe, on ordinary scenes.
        existence_clear: By probe, on the same scenes without noise, blur and faint objects.
        captions: Detailed captions of ordinary scenes.
        captions_clear: The same of clear scenes.
        inventions: What the captions of ordinary scenes invent, miss and repeat.
        inventions_clear: The same of clear scenes.
        answers: By kind, the share of right replies, on clear scenes.
        answers_ordinary: The same on ordinary scenes.
        steps: Multi-step answers with every step right, on clear scenes.
        forms: MME's forms, by task, the share of right answers on clear scenes.
        pairs: Questions about two clear images, by kind, the share of right replies.
        counter: Per trigger, how often its missing partner is invented, with and without the trigger.
    """

    existence: dict[str, Existence]
    existence_clear: dict[str, Existence]
    captions: CaptionScores
    captions_clear: CaptionScores
    inventions: Inventions
    inventions_clear: Inventions
    answers: dict[str, Rate]
    answers_ordinary: dict[str, Rate]
    steps: Rate
    forms: dict[str, Rate]
    pairs: dict[str, Rate]
    counter: tuple[Pair, ...]


@final
@dataclass(frozen=True)
class Asker:
    """A model with its processor, ready to be asked about one or two images at a time."""

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Sequence[Image.Image]], texts: Sequence[str], *, longest: int = LONGEST
    ) -> list[str]:
        """Return the greedy reply to each text about its images."""
        replies: list[str] = []
        order = sorted(range(len(texts)), key=lambda index: len(images[index]))
        for start in range(0, len(texts), BATCH):
            part = order[start : start + BATCH]
            prompts = [
                self.processor.apply_chat_template(
                    conversation(texts[index], images=len(images[index])), add_generation_prompt=True
                )
                for index in part
            ]
            shown = [image for index in part for image in images[index]]
            inputs = self.processor(images=shown, text=prompts, padding=True, return_tensors="pt")
            out = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False)
            said = self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            replies += [plain(reply) for reply in said]
        return [replies[at] for at in np.argsort(order)]

    def about(self, asked: Sequence[tuple[Scene, str]], *, longest: int = LONGEST) -> list[str]:
        """Return the replies to texts about one scene each."""
        return self([[scene.image] for scene, _ in asked], [text for _, text in asked], longest=longest)


def f1_score(found: YesNoScores) -> float:
    """Return the harmonic mean of precision and recall of the answer yes; not a number without any yes."""
    true = found.false_no.n - found.false_no.hits - found.unreadable.hits
    both = 2 * true + found.false_yes.hits + found.false_no.hits
    return 2 * true / both if both else float("nan")


def measure_existence(ask: Asker, about: Sequence[Scene], probe: str) -> Existence:
    """Return the scores of the existence questions of one probe."""
    asked = [(scene, q) for scene in about for q in scene.questions if q.probe == probe]
    replies = ask.about([(scene, q.text) for scene, q in asked], longest=3)
    found = score_yes_no(replies, [q for _, q in asked])
    return Existence(found, f1_score(found))


def _kind(about: Sequence[Scene], kind: str) -> list[tuple[Scene, Question]]:
    return [(scene, q) for scene in about for q in scene.questions if q.kind == kind]


def measure_answers(ask: Asker, about: Sequence[Scene], kind: str) -> Rate:
    """Return the share of replies that equal the answer."""
    asked = _kind(about, kind)
    replies = ask.about([(scene, q.text) for scene, q in asked], longest=60)
    return rate(reply == q.answer for reply, (_, q) in zip(replies, asked, strict=True))


def measure_steps(ask: Asker, about: Sequence[Scene]) -> Rate:
    """Return the share of multi-step replies with every step right."""
    asked = _kind(about, "steps")
    replies = ask.about([(scene, q.text) for scene, q in asked], longest=120)
    return rate(all(steps_in_order(reply, q)[0]) for reply, (_, q) in zip(replies, asked, strict=True))


def measure_forms(ask: Asker, about: Sequence[Scene]) -> dict[str, Rate]:
    """Return the share of right answers to questions in MME's forms, by task."""
    found = {}
    for number, (task, form) in enumerate(FORMS.items()):
        made = [
            (
                scene,
                form(
                    np.random.default_rng((3, number, index)),
                    view(scene.place, scene.objects, find_world(scene.version)),
                ),
            )
            for index, scene in enumerate(about)
        ]
        asked = [(scene, *question) for scene, question in made if question]
        replies = ask.about([(scene, text) for scene, text, _ in asked], longest=3)
        found[task] = rate(reply == answer for reply, (_, _, answer) in zip(replies, asked, strict=True))
    return found


def measure_pairs(ask: Asker, about: Sequence[Scene]) -> dict[str, Rate]:
    """Return the share of right replies about two images, by kind; neighbouring scenes are paired."""
    couples = list(zip(about[::2], about[1::2], strict=False))
    found = {}
    for number, (kind, form) in enumerate(PAIR_FORMS.items()):
        if kind == "caption":
            continue
        made = [
            (
                couple,
                form(
                    np.random.default_rng((4, number, index)),
                    [view(s.place, s.objects, find_world(s.version)) for s in couple],
                ),
            )
            for index, couple in enumerate(couples)
        ]
        asked = [(couple, *question) for couple, question in made if question]
        replies = ask([[s.image for s in couple] for couple, _, _ in asked], [text for _, text, _ in asked], longest=8)
        found[kind] = rate(reply == answer for reply, (_, _, answer) in zip(replies, asked, strict=True))
    return found


def measure(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, *, version: int = 2, n: int = 300, seed: int = 0
) -> Measured:
    """Ask about n ordinary scenes, the same scenes made clear, and about as many counter-prior ones.

    Args:
        model: In single precision.
        processor: Its processor.
        version: Of the world.
        n: Scenes of the test split.
        seed: Of the scenes.

    Raises:
        ValueError: When the model was trained in another version of the world.
    """
    check_version(model.config, version)
    ask = Asker(model, processor)
    ordinary = scenes("test", n, seed, version)
    clear = [scene.clear for scene in ordinary]
    said, said_clear = (ask.about([(scene, DETAILED[0]) for scene in part]) for part in (ordinary, clear))
    return Measured(
        existence={probe: measure_existence(ask, ordinary, probe) for probe in PROBES},
        existence_clear={probe: measure_existence(ask, clear, probe) for probe in PROBES},
        captions=score_captions(said, ordinary),
        captions_clear=score_captions(said_clear, clear),
        inventions=measure_inventions(said, ordinary),
        inventions_clear=measure_inventions(said_clear, clear),
        answers={kind: measure_answers(ask, clear, kind) for kind in SINGLE},
        answers_ordinary={kind: measure_answers(ask, ordinary, kind) for kind in SINGLE},
        steps=measure_steps(ask, clear),
        forms=measure_forms(ask, clear),
        pairs=measure_pairs(ask, clear),
        counter=counter_prior(model, processor, scenes("counter_prior", n - n % 14, seed, version)),
    )


@final
@dataclass(frozen=True)
class Target:
    """One row of the table of targets.

    Attributes:
        wanted: In words.
        value: What was measured, in words.
        met: Whether it is reached.
    """

    wanted: str
    value: str
    met: bool


def _within(wanted: str, value: float, low: float, high: float = 1.0) -> Target:
    return Target(wanted, f"{value:.3f}", low <= value <= high)


def compare(found: Measured) -> tuple[Target, ...]:
    """Return every target that follows from the answers alone, with what was measured."""
    hard, easy = found.existence["adversarial"], found.existence_clear["adversarial"]
    false_yes, false_no = hard.scores.false_yes, hard.scores.false_no
    tricks, noise = found.inventions, [part.value for part in found.inventions.by_noise.rates]
    filled = [part for part in tricks.by_slot if part.n >= 50]
    named, without = total([p.named for p in found.counter]), total([p.named_without for p in found.counter])
    rows = [
        _within("existence, adversarial, all noise: F1 .80 to .92", hard.f1, 0.80, 0.92),
        Target(
            "more false yes than false no",
            f"{false_yes.value:.3f} / {false_no.value:.3f}",
            false_yes.value > false_no.value,
        ),
        _within("existence, adversarial, clear: F1 at least .95", easy.f1, 0.95),
        _within("detailed captions: CHAIR_s .15 to .45", found.captions.chair_s.value, 0.15, 0.45),
        _within("CHAIR_i .04 to .15", found.captions.chair_i.value, 0.04, 0.15),
        _within("recall at least .80", found.captions.recall.value, 0.80),
        _within("repeated classes at most .02", tricks.repeated.value, 0.0, 0.02),
        Target(
            "inventions rise with the noise",
            " ".join(f"{value:.2f}" for value in noise),
            all(right >= left - 0.03 for left, right in pairwise(noise)) and noise[-1] > noise[0],
        ),
        Target("in every slot", " ".join(f"{part.value:.2f}" for part in filled), all(part.hits for part in filled)),
        Target("expected classes 5 times likelier", f"{tricks.ratio:.1f}", tricks.ratio >= 5),
        Target(
            "missing partner named, with and without its trigger",
            f"{named.value:.3f} / {without.value:.3f}",
            named.value >= 5 * without.value,
        ),
        *(
            _within(f"{kind}, clear: at least .85", found.answers[kind].value, 0.85)
            for kind in ("where", "at", "colour", "count")
        ),
        _within("order, clear: at least .7", found.answers["order"].value, 0.7),
        _within("all steps right, clear: at least .6", found.steps.value, 0.6),
        *(_within(f"MME's {task}, clear: at least .8", part.value, 0.8) for task, part in found.forms.items()),
        _within("two images told apart: at least .9", found.pairs["which"].value, 0.9),
    ]
    return tuple(rows)
