"""What the model can do, measured on held-out scenes: the figures of its card."""

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interp.world.questions import KINDS, PROBES, Question, existence_text
from interp.world.scene import Scene, scenes
from interp.world.scoring import (
    CaptionScores,
    Rate,
    YesNoScores,
    plain,
    rate,
    read_yes_no,
    score_captions,
    score_yes_no,
    steps_in_order,
)
from interp.world.text import mentions
from interp.world.wording import DETAILED, SHORT

LONGEST = 100
BATCH = 64


def load_model(folder: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return model, in single precision and with eager attention, and processor of a checkpoint folder."""
    model = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval(), LlavaProcessor.from_pretrained(folder, local_files_only=True)


def conversation(text: str, *, images: int = 1) -> list[dict[str, Any]]:
    """Return one user turn as `apply_chat_template` takes it."""
    shown = [{"type": "image"}] * images
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


@torch.no_grad()
def ask(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    images: Sequence[Image.Image],
    texts: Sequence[str],
    *,
    longest: int = LONGEST,
) -> list[str]:
    """Return the greedy reply to each text about its image."""
    replies = []
    for start in range(0, len(texts), BATCH):
        prompts = [
            processor.apply_chat_template(conversation(text), add_generation_prompt=True)
            for text in texts[start : start + BATCH]
        ]
        inputs = processor(images=list(images[start : start + BATCH]), text=prompts, padding=True, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        said = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        replies += [plain(reply) for reply in said]
    return replies


@final
@dataclass(frozen=True)
class AnswerScores:
    """Accuracy of one kind of question.

    Attributes:
        accuracy: Replies equal to the answer.
        majority: Accuracy of always giving the most frequent answer.
    """

    accuracy: Rate
    majority: float


@final
@dataclass(frozen=True)
class Steps:
    """Multi-step answers.

    Attributes:
        all_right: Replies with every step right.
        by_step: The first, second, third step right.
        in_order: Replies with all steps announced in order.
    """

    all_right: Rate
    by_step: tuple[Rate, ...]
    in_order: Rate


@final
@dataclass(frozen=True)
class Pair:
    """How often a missing partner is invented.

    Attributes:
        trigger: What makes one expect it.
        partner: What is missing.
        named: Detailed captions that name it, with the trigger in the image.
        named_without: The same scenes without the trigger.
        yes: Yes to the question whether it is there, with the trigger.
        yes_without: The same scenes without the trigger.
    """

    trigger: str
    partner: str
    named: Rate
    named_without: Rate
    yes: Rate
    yes_without: Rate


@final
@dataclass(frozen=True)
class Abilities:
    """Everything that is measured by asking."""

    yes_no: dict[str, YesNoScores]
    captions: dict[str, CaptionScores]
    shuffled: CaptionScores
    answers: dict[str, AnswerScores]
    steps: Steps
    pairs: tuple[Pair, ...]


def measure_abilities(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, *, n: int = 300, seed: int = 0
) -> Abilities:
    """Ask about n test scenes and as many counter-prior ones."""
    test = scenes("test", n, seed)
    images = [scene.image for scene in test]
    short = ask(model, processor, images, [SHORT[0]] * n)
    detailed = ask(model, processor, images, [DETAILED[0]] * n)
    return Abilities(
        yes_no={probe: _yes_no(model, processor, test, probe) for probe in PROBES},
        captions={"short": score_captions(short, test), "detailed": score_captions(detailed, test)},
        shuffled=score_captions([*detailed[1:], detailed[0]], test),
        answers={kind: _answers(model, processor, test, kind) for kind in KINDS if kind not in ("existence", "steps")},
        steps=_steps(model, processor, test),
        pairs=counter_prior(model, processor, scenes("counter_prior", n - n % 14, seed)),
    )


def _asked(about: Sequence[Scene], kind: str, probe: str = "") -> tuple[list[Image.Image], list[Question]]:
    found = [(s.image, q) for s in about for q in s.questions if q.kind == kind and q.probe == probe]
    return [image for image, _ in found], [question for _, question in found]


def _yes_no(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, about: Sequence[Scene], probe: str
) -> YesNoScores:
    images, asked = _asked(about, "existence", probe)
    return score_yes_no(ask(model, processor, images, [q.text for q in asked], longest=3), asked)


def _answers(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, about: Sequence[Scene], kind: str
) -> AnswerScores:
    images, asked = _asked(about, kind)
    replies = ask(model, processor, images, [q.text for q in asked], longest=40)
    truths = [question.answer for question in asked]
    right = rate(reply == truth for reply, truth in zip(replies, truths, strict=True))
    return AnswerScores(right, max(Tally(truths).values()) / len(truths))


def _steps(model: LlavaForConditionalGeneration, processor: LlavaProcessor, about: Sequence[Scene]) -> Steps:
    images, asked = _asked(about, "steps")
    replies = ask(model, processor, images, [q.text for q in asked], longest=120)
    read = [steps_in_order(reply, question) for reply, question in zip(replies, asked, strict=True)]
    return Steps(
        all_right=rate(all(right) for right, _ in read),
        by_step=tuple(rate(right[i] for right, _ in read if len(right) > i) for i in range(3)),
        in_order=rate(ordered for _, ordered in read),
    )


def counter_prior(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, about: Sequence[Scene]
) -> tuple[Pair, ...]:
    """Return per trigger how often its missing partner is invented, with and without the trigger."""
    images = [scene.image for scene in about]
    counters = [scene.counter for scene in about if scene.counter is not None]
    captions = ask(model, processor, images, [DETAILED[0]] * len(about))
    questions = [existence_text(counter.partner) for counter in counters]
    yes = [read_yes_no(reply) == "Yes" for reply in ask(model, processor, images, questions, longest=3)]
    named = [
        counter.partner in {mention.name for mention in mentions(caption)}
        for counter, caption in zip(counters, captions, strict=True)
    ]

    def share(flags: Sequence[bool], trigger: str, *, control: bool) -> Rate:
        return rate(
            flag for flag, c in zip(flags, counters, strict=True) if c.trigger == trigger and c.control == control
        )

    return tuple(
        Pair(
            trigger,
            partner,
            named=share(named, trigger, control=False),
            named_without=share(named, trigger, control=True),
            yes=share(yes, trigger, control=False),
            yes_without=share(yes, trigger, control=True),
        )
        for trigger, partner in dict.fromkeys((c.trigger, c.partner) for c in counters)
    )


def total(rates: Sequence[Rate]) -> Rate:
    """Return several rates as one."""
    return Rate(sum(r.hits for r in rates), sum(r.n for r in rates))
