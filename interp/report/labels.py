"""Which tokens of a reply name what is there, and which what is not: known for drawn scenes, unknown for anything else."""

from collections.abc import Sequence
from typing import Final

from interp.world import Scene, mentions
from interp.world.scoring import read_yes_no

LABELS: Final = {
    "there": "names an object that is in the image, or answers rightly",
    "invented": "names an object that is not in the image, or answers wrongly",
    "none": "names no object",
    "unknown": "nobody has said what is in this image",
}
"""Every label a token can have, in words."""


def labels(words: Sequence[str], text: str, question: str, scene: Scene | None) -> tuple[str, ...]:
    """Return the label of every token of a reply, one of `LABELS`.

    A token is labelled by the object whose name it belongs to, and the first token of an answer to a yes/no question that the scene
    answers by whether it is right.

    Args:
        words: the reply's tokens as text.
        text: the whole reply.
        question: what was asked.
        scene: what the image shows; None where that is not known.
    """
    if scene is None:
        return ("unknown",) * len(words)
    named = [(m.start, m.end, "there" if m.name in scene.present else "invented") for m in mentions(text)]
    truth = next((q.answer for q in scene.questions if q.kind == "existence" and q.text == question), "")
    said = read_yes_no(text)
    if truth and said:
        start = len(text) - len(text.lstrip())
        named.append((start, start + len(said), "there" if said == truth else "invented"))
    return tuple(_label(span, named) for span in spans(words, text))


def spans(words: Sequence[str], text: str) -> tuple[tuple[int, int], ...]:
    """Return where each token stands in a text, as half-open spans of characters; empty for one that is not written there."""
    found, last = [], 0
    for word in words:
        bare = word.strip()
        start = text.find(bare, last) if bare else -1
        end = start + len(bare)
        found.append((start, end) if start >= 0 else (last, last))
        last = max(last, end) if start >= 0 else last
    return tuple(found)


def _label(span: tuple[int, int], named: Sequence[tuple[int, int, str]]) -> str:
    return next((label for start, end, label in named if span[0] < end and start < span[1]), "none")
