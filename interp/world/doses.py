"""Is a hallucination a neglect of the image? Boost or suppress its scores and count; watch its share as a reply grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from interp.data.tokens import EMITTING, EVERY, Segment
from interp.decoding.generate import generate
from interp.interventions.attention import MaskAttention, ScaleScores
from interp.interventions.base import Intervention
from interp.models.model import Model
from interp.passes.capture import capture
from interp.world.questions import Question
from interp.world.scene import Scene
from interp.world.scoring import CaptionScores, YesNoScores, plain, score_captions, score_yes_no
from interp.world.text import mentions
from interp.world.wording import DETAILED

AMOUNTS: Final = (-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6)
MIDDLE: Final = (2, 3, 4, 5, 6)
"""Layers whose scores are changed."""
BATCH: Final = 50


@final
@dataclass(frozen=True)
class DoseEffect:
    """What the model says under an intervention.

    Attributes:
        captions: Scores of detailed captions.
        yes_no: Scores of existence questions, all probes together.
    """

    captions: CaptionScores
    yes_no: YesNoScores


@final
@dataclass(frozen=True)
class Dose:
    """What one strength does.

    Attributes:
        amount: a in z + a·|z|, added to the scores of image tokens in the rows that emit the reply.
        effect: What comes of it.
    """

    amount: float
    measure_effect: DoseEffect


def replies(
    model: Model, about: Sequence[Scene], texts: Sequence[str], *interventions: Intervention, longest: int = 100
) -> list[str]:
    """Return the greedy replies under some interventions."""
    said = []
    for start in range(0, len(texts), BATCH):
        pairs = zip(about[start : start + BATCH], texts[start : start + BATCH], strict=True)
        prompts = [model.prepare(scene.image, text) for scene, text in pairs]
        said += [plain(reply.text) for reply in generate(model, prompts, *interventions, max_new_tokens=longest)]
    return said


def measure_effect(model: Model, about: Sequence[Scene], *interventions: Intervention) -> DoseEffect:
    """Return captions' and answers' scores under some interventions: one caption and about four questions per scene."""
    asked: list[tuple[Scene, Question]] = [
        (scene, question) for scene in about for question in scene.questions if question.kind == "existence"
    ]
    asked = asked[:: max(1, len(asked) // (4 * len(about)))]
    captions = replies(model, about, [DETAILED[0]] * len(about), *interventions)
    texts, questions = [question.text for _, question in asked], [question for _, question in asked]
    answers = replies(model, [scene for scene, _ in asked], texts, *interventions, longest=3)
    return DoseEffect(score_captions(captions, about), score_yes_no(answers, questions))


def boost(amount: float) -> ScaleScores:
    """Return the change that adds amount · |score| to every score from an emitting row to an image token."""
    return ScaleScores(Segment.IMAGE, 1 + amount, queries=EMITTING, layers=MIDDLE, mode="abs")


def dose_response(model: Model, about: Sequence[Scene], amounts: Sequence[float] = AMOUNTS) -> tuple[Dose, ...]:
    """Return what every strength does, over the same scenes."""
    return tuple(
        Dose(amount, measure_effect(model, about, *((boost(amount),) if amount else ()))) for amount in amounts
    )


def hide(position: int) -> MaskAttention:
    """Return the change that hides one token from all others, in every layer."""
    return MaskAttention(position, queries=EVERY - position)


@final
@dataclass(frozen=True)
class ImageShare:
    """Attention on the image tokens in the rows that emit a detailed caption, mean over heads and middle layers.

    Attributes:
        true: At mentions of what is there.
        invented: At mentions of what is not.
        thirds: Over the first, second and last third of the caption.
        by_layer: Mean over all rows, per layer.
        n_true: Mentions of what is there.
        n_invented: Mentions of what is not.
    """

    true: float
    invented: float
    thirds: tuple[float, float, float]
    by_layer: tuple[float, ...]
    n_true: int
    n_invented: int


def image_share(model: Model, about: Sequence[Scene], captions: Sequence[str]) -> ImageShare:
    """Return where in the captions, teacher-forced, the model looks at the image."""
    kept: dict[bool, list[float]] = {False: [], True: []}
    thirds, layers = [], []
    for scene, caption in zip(about, captions, strict=True):
        prompt = model.prepare(scene.image, DETAILED[0]).with_response(caption)
        pattern = capture(model, prompt, want={"pattern"}).pattern
        columns = prompt.layout.mask(Segment.IMAGE)
        first = len(prompt) - len(prompt.response_ids) - 1
        share = pattern[:, :, first:-1][..., columns].sum(-1).mean(1).float().numpy()
        rows = share[list(MIDDLE)].mean(0)
        layers.append(share.mean(1))
        thirds.append([part.mean() for part in np.array_split(rows, 3)])
        spans = model.tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        starts = [start for start, _ in spans]
        for mention in mentions(caption):
            kept[mention.name not in scene.present].append(float(rows[starts.index(mention.start)]))
    first_third, second, last = (float(value) for value in np.mean(thirds, 0))
    return ImageShare(
        true=float(np.mean(kept[False])),
        invented=float(np.mean(kept[True])) if kept[True] else float("nan"),
        thirds=(first_third, second, last),
        by_layer=tuple(float(value) for value in np.mean(layers, 0)),
        n_true=len(kept[False]),
        n_invented=len(kept[True]),
    )
