"""The same questions and captions under a change and without it: what breaks, in counts with intervals."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from interp.data.prompt import Prompt, Reply
from interp.decoding.generate import generate
from interp.interventions.base import Intervention
from interp.models.model import Model
from interp.taps.running import NothingChanged
from interp.world import Question, Scene
from interp.world.scoring import CaptionScores, Rate, YesNoScores, plain, rate, score_captions, score_yes_no
from interp.world.wording import DETAILED

DESCRIBE: Final = DETAILED[0]
OTHERS: Final = ("colour", "where", "count", "place", "at")
"""Kinds of questions besides yes/no; each scene is asked two of them, in turn."""
BATCH: Final = 64
LONGEST: Final = {"existence": 3, "caption": 80}
"""Tokens a reply may have; 10 for every other kind."""

Tell = Callable[[str], None]
"""Called with what is being done, once per unit of work."""


@final
@dataclass(frozen=True)
class Treatment:
    """One change to the model, with the words that explain it.

    Args:
        name: its line in the tables.
        explanation: what it does.
        interventions: the interventions; none is the model as it is.
    """

    name: str
    explanation: str
    interventions: tuple[Intervention, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class Exam:
    """Everything that is asked, ready for the model: prompts are made once and used under every treatment."""

    about: tuple[Scene, ...]
    captions: tuple[Prompt, ...]
    yes_no: tuple[tuple[Question, Prompt], ...]
    others: tuple[tuple[Question, Prompt], ...]

    @property
    def batches(self) -> int:
        """How many batches one treatment takes."""
        return sum(-(-len(part) // BATCH) for part in (self.captions, self.yes_no, self.others))

    @property
    def shortest(self) -> int:
        """Tokens of the shortest prompt."""
        return min(len(p) for p in (*self.captions, *(p for _, p in self.yes_no), *(p for _, p in self.others)))


@final
@dataclass(frozen=True, eq=False)
class Outcome:
    """How the model did under one treatment.

    Args:
        treatment: what was changed.
        yes_no: scores of the existence questions.
        others: exact answers to the other questions, by kind.
        captions: CHAIR and recall of the detailed captions.
        replies: the captions.
        answers: every answer, yes/no first.
        note: what the record of the changes says, where there is something to say.
    """

    treatment: Treatment
    yes_no: YesNoScores
    others: dict[str, Rate]
    captions: CaptionScores
    replies: tuple[Reply, ...] = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    note: str = ""

    @property
    def said(self) -> tuple[str, ...]:
        """The captions as text."""
        return tuple(plain(reply.text) for reply in self.replies)

    @property
    def tokens(self) -> float:
        """The mean length of a caption in tokens, its end included."""
        return sum(len(reply.ids) for reply in self.replies) / len(self.replies)

    @property
    def ended(self) -> Rate:
        """The captions that the model ended by itself."""
        return rate(reply.stop == "end" for reply in self.replies)

    def differs(self, other: "Outcome") -> tuple[Rate, Rate]:
        """Return the share of answers and of captions that are not those of another outcome."""
        pairs = ((self.answers, other.answers), (self.said, other.said))
        answers, captions = (rate(a != b for a, b in zip(mine, theirs, strict=True)) for mine, theirs in pairs)
        return answers, captions


def exam(model: Model, about: Sequence[Scene]) -> Exam:
    """Return what is asked about some scenes: a caption, up to four yes/no questions and two others each.

    Half of the yes/no questions are about what is there, half about what is not: a class drawn at random, and one that the
    scene leads one to expect.
    """
    yes_no, others = [], []
    for index, scene in enumerate(about):
        yes_no += [(q, model.prepare(scene.image, q.text)) for q in _existence(scene)]
        kinds = {OTHERS[index % len(OTHERS)], OTHERS[(index + 2) % len(OTHERS)]}
        others += [(q, model.prepare(scene.image, q.text)) for q in scene.questions if q.kind in kinds]
    captions = tuple(model.prepare(scene.image, DESCRIBE) for scene in about)
    return Exam(tuple(about), captions, tuple(yes_no), tuple(others))


def _existence(scene: Scene) -> list[Question]:
    """Return one or two questions of each answer, no two of them the same."""
    there = {q.subject: q for q in scene.questions if q.kind == "existence" and q.answer == "Yes"}
    absent: dict[str, Question] = {}
    for probe in ("random", "adversarial"):
        found = [q for q in scene.questions if q.kind == "existence" and q.answer == "No" and q.probe == probe]
        new = next((q for q in found if q.subject not in absent), None)
        if new is not None:
            absent[new.subject] = new
    return [q for pair in zip(there.values(), absent.values(), strict=False) for q in pair]


def examine(model: Model, questions: Exam, treatment: Treatment, tell: Tell) -> Outcome:
    """Ask everything under one treatment and score it."""
    notes: list[str] = []

    def said(prompts: Sequence[Prompt], kind: str) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(prompts), BATCH):
            tell(f"{treatment.name}: {kind}")
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always", NothingChanged)
                batch, longest = list(prompts[start : start + BATCH]), LONGEST.get(kind, 10)
                replies += generate(model, batch, *treatment.interventions, max_new_tokens=longest)
            notes.extend(str(w.message) for w in seen if issubclass(w.category, NothingChanged))
        return replies

    captions = said(questions.captions, "caption")
    asked, other = [q for q, _ in questions.yes_no], [q for q, _ in questions.others]
    yes_no = [plain(r.text) for r in said([p for _, p in questions.yes_no], "existence")]
    rest = [plain(r.text) for r in said([p for _, p in questions.others], "other questions")]
    by_kind = {k: [r == q.answer for q, r in zip(other, rest, strict=True) if q.kind == k] for k in OTHERS}
    return Outcome(
        treatment,
        score_yes_no(yes_no, asked),
        {kind: rate(right) for kind, right in by_kind.items() if right},
        score_captions([plain(reply.text) for reply in captions], questions.about),
        tuple(captions),
        (*yes_no, *rest),
        "It left every value as it was: the model computed what it computes anyway." if notes else "",
    )
