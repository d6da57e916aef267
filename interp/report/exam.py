"""Questions and captions about drawn scenes, asked under a variant and scored: counts with intervals.

`build_exam` prepares the prompts once; `run_exam` asks them under one `Variant` and returns the `Outcome`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.models.model import Model
from interp.report.reply_view import Variant
from interp.taps.audit import NothingChanged
from interp.world import Question, Scene
from interp.world.scoring import CaptionScores, Rate, YesNoScores, plain, rate, score_captions, score_yes_no
from interp.world.wording import DETAILED

EXAM_BATCH: Final = 64
LONGEST_CAPTION: Final = 80
"""Tokens that a caption may have."""
_OTHER_KINDS: Final = ("colour", "where", "count", "place", "at")
"""Kinds of questions besides yes/no; each scene is asked two of them, in turn."""
_LONGEST: Final = {"existence": 3, "caption": LONGEST_CAPTION}
"""Tokens that a reply may have, by kind; 10 for all other kinds."""

Progress = Callable[[str], None]
"""Called with the name of each unit of work before it starts."""


@final
@dataclass(frozen=True, eq=False)
class Exam:
    """Questions about scenes, with their prompts, which are built once and asked under every variant."""

    scenes: tuple[Scene, ...]
    captions: tuple[Prompt, ...]
    yes_no: tuple[tuple[Question, Prompt], ...]
    others: tuple[tuple[Question, Prompt], ...]


@final
@dataclass(frozen=True, eq=False)
class Outcome:
    """The results of an exam under one variant.

    Args:
        variant: the variant.
        yes_no: scores of the existence questions.
        others: exact answers to the other questions, by kind.
        captions: CHAIR and recall of the detailed captions.
        replies: the captions.
        answers: every answer, yes/no first.
        note: a remark, where the interventions changed nothing.
    """

    variant: Variant
    yes_no: YesNoScores
    others: dict[str, Rate]
    captions: CaptionScores
    replies: tuple[Reply, ...] = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    note: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions as text."""
        return tuple(plain(reply.text) for reply in self.replies)

    @property
    def tokens(self) -> float:
        """The mean length of a caption in tokens, including its end token."""
        return sum(len(reply.ids) for reply in self.replies) / len(self.replies)

    @property
    def ended(self) -> Rate:
        """The captions that end with an end token."""
        return rate(reply.stop == "end" for reply in self.replies)

    def differs(self, other: "Outcome") -> tuple[Rate, Rate]:
        """Return the share of answers and the share of captions that differ from another outcome."""
        pairs = ((self.answers, other.answers), (self.texts, other.texts))
        answers, captions = (rate(a != b for a, b in zip(mine, theirs, strict=True)) for mine, theirs in pairs)
        return answers, captions


def build_exam(model: Model, scenes: Sequence[Scene]) -> Exam:
    """Return the questions about scenes: for each, a caption, up to four yes/no questions and two others.

    Half of the yes/no questions are about objects in the scene, half about absent ones: a class drawn at random, and one that the
    scene makes likely.
    """
    yes_no, others = [], []
    for index, scene in enumerate(scenes):
        yes_no += [(q, model.prepare(scene.image, q.text)) for q in _existence(scene)]
        kinds = {_OTHER_KINDS[index % len(_OTHER_KINDS)], _OTHER_KINDS[(index + 2) % len(_OTHER_KINDS)]}
        others += [(q, model.prepare(scene.image, q.text)) for q in scene.questions if q.kind in kinds]
    captions = tuple(model.prepare(scene.image, DETAILED[0]) for scene in scenes)
    return Exam(tuple(scenes), captions, tuple(yes_no), tuple(others))


def _existence(scene: Scene) -> list[Question]:
    """Return one or two questions of each answer, all different."""
    present = {q.subject: q for q in scene.questions if q.kind == "existence" and q.answer == "Yes"}
    absent: dict[str, Question] = {}
    for probe in ("random", "adversarial"):
        fitting = [q for q in scene.questions if q.kind == "existence" and q.answer == "No" and q.probe == probe]
        new = next((q for q in fitting if q.subject not in absent), None)
        if new is not None:
            absent[new.subject] = new
    return [q for pair in zip(present.values(), absent.values(), strict=False) for q in pair]


def run_exam(model: Model, exam: Exam, variant: Variant, progress: Progress) -> Outcome:
    """Ask all questions of an exam under one variant and return the scores."""
    notes: list[str] = []

    def ask(prompts: Sequence[Prompt], kind: str) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(prompts), EXAM_BATCH):
            progress(f"{variant.name}: {kind}")
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always", NothingChanged)
                batch, longest = list(prompts[start : start + EXAM_BATCH]), _LONGEST.get(kind, 10)
                replies += generate(model, batch, *variant.interventions, max_new_tokens=longest)
            notes.extend(str(w.message) for w in seen if issubclass(w.category, NothingChanged))
        return replies

    captions = ask(exam.captions, "caption")
    questions, other = [q for q, _ in exam.yes_no], [q for q, _ in exam.others]
    yes_no = [plain(r.text) for r in ask([p for _, p in exam.yes_no], "existence")]
    rest = [plain(r.text) for r in ask([p for _, p in exam.others], "other questions")]
    by_kind = {k: [r == q.answer for q, r in zip(other, rest, strict=True) if q.kind == k] for k in _OTHER_KINDS}
    return Outcome(
        variant,
        score_yes_no(yes_no, questions),
        {kind: rate(right) for kind, right in by_kind.items() if right},
        score_captions([plain(reply.text) for reply in captions], exam.scenes),
        tuple(captions),
        (*yes_no, *rest),
        "It changed no value: the model computed the same as the baseline." if notes else "",
    )
