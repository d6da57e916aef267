"""Scores of replies against the scenes they are about: pure counting, no model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from interp.world.questions import Question
from interp.world.scene import Scene
from interp.world.text import mentions

NORMAL = 1.959964
"""Two-sided 95 % point of the normal distribution."""


@final
@dataclass(frozen=True)
class Rate:
    """A share of cases, with Wilson's 95 % interval.

    Attributes:
        hits: Cases in which it was so.
        n: Cases.
    """

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The share, in [0, 1]; not a number without cases."""
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval, in [0, 1]."""
        if not self.n:
            return (0.0, 1.0)
        z2 = NORMAL**2
        middle = (self.hits + z2 / 2) / (self.n + z2)
        half = NORMAL / (self.n + z2) * np.sqrt(self.hits * (self.n - self.hits) / self.n + z2 / 4)
        return (max(0.0, float(middle - half)), min(1.0, float(middle + half)))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """Return value, interval and counts, rounded for a file."""
        low, high = self.interval
        return {
            "value": round(self.value, 4),
            "interval": [round(low, 4), round(high, 4)],
            "hits": self.hits,
            "n": self.n,
        }


def rate(outcomes: Iterable[bool]) -> Rate:
    """Return the share of true outcomes."""
    values = [bool(outcome) for outcome in outcomes]
    return Rate(sum(values), len(values))


@final
@dataclass(frozen=True)
class CaptionScores:
    """CHAIR and recall of captions.

    Attributes:
        chair_s: Captions that name at least one object that is not there.
        chair_i: Mentions of objects that are not there.
        recall: Visible classes that are named.
        by_index: Invented share of the first, second, ... mention.
        words: Mean length.
    """

    chair_s: Rate
    chair_i: Rate
    recall: Rate
    by_index: tuple[Rate, ...]
    words: float


def invented(caption: str, scene: Scene) -> list[bool]:
    """Return for every mention in a caption whether nothing of its class is there."""
    return [mention.name not in scene.present for mention in mentions(caption)]


def score_captions(captions: Sequence[str], about: Sequence[Scene]) -> CaptionScores:
    """Return CHAIR_s, CHAIR_i and recall of captions, one per scene."""
    wrong = [invented(caption, scene) for caption, scene in zip(captions, about, strict=True)]
    named = [{mention.name for mention in mentions(caption)} for caption in captions]
    longest = max((len(flags) for flags in wrong), default=0)
    return CaptionScores(
        chair_s=rate(any(flags) for flags in wrong),
        chair_i=rate(flag for flags in wrong for flag in flags),
        recall=rate(name in said for said, scene in zip(named, about, strict=True) for name in scene.visible),
        by_index=tuple(rate(flags[i] for flags in wrong if len(flags) > i) for i in range(longest)),
        words=float(np.mean([len(caption.split()) for caption in captions])),
    )


def read_yes_no(reply: str) -> str:
    """Return "Yes" or "No" as the reply begins, "" when it begins otherwise."""
    words = reply.replace(",", " ").replace(".", " ").split()
    return {"yes": "Yes", "no": "No"}.get(words[0].lower(), "") if words else ""


@final
@dataclass(frozen=True)
class YesNoScores:
    """Accuracy of existence questions and how the answers are spread.

    Attributes:
        accuracy: Right answers; a reply that is neither yes nor no is wrong.
        yes: Replies that say yes, where half should.
        false_yes: Yes for what is not there.
        false_no: No for what is there.
        unreadable: Replies that are neither.
    """

    accuracy: Rate
    yes: Rate
    false_yes: Rate
    false_no: Rate
    unreadable: Rate


def score_yes_no(replies: Sequence[str], asked: Sequence[Question]) -> YesNoScores:
    """Return the scores of existence questions."""
    read = [(read_yes_no(reply), question.answer) for reply, question in zip(replies, asked, strict=True)]
    return YesNoScores(
        accuracy=rate(said == truth for said, truth in read),
        yes=rate(said == "Yes" for said, _ in read),
        false_yes=rate(said == "Yes" for said, truth in read if truth == "No"),
        false_no=rate(said == "No" for said, truth in read if truth == "Yes"),
        unreadable=rate(said == "" for said, _ in read),
    )


def plain(text: str) -> str:
    """Return a reply without the spaces that decoding puts around punctuation."""
    return " ".join(text.split()).replace(" .", ".").replace(" ,", ",")


def steps_in_order(reply: str, question: Question) -> tuple[list[bool], bool]:
    """Return which steps of a multi-step answer are right, and whether all ordinals came in order."""
    said = plain(reply)
    ordinals = [step.split(",")[0] for step in question.steps]
    found = [said.find(f"{ordinal},") for ordinal in ordinals]
    return [step in said for step in question.steps], found == sorted(found) and -1 not in found
