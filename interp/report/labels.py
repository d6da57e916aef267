"""Which tokens of a reply name what is there, and which what is not: known for drawn scenes, unknown for anything else."""

from typing import Any, Final

from interp.analysis.token_labels import token_labels
from interp.data.prompt import Reply
from interp.world import Scene, mentions
from interp.world.scoring import read_yes_no

LABELS: Final = {
    "there": "names an object that is in the image, or answers rightly",
    "invented": "names an object that is not in the image, or answers wrongly",
    "none": "names no object",
    "unknown": "nobody has said what is in this image",
}
"""Every label a token can have, in words."""


def labels(reply: Reply, tokenizer: Any, scene: Scene | None) -> tuple[str, ...]:
    """Return the label of every token of a reply, one of `LABELS`.

    A token is labelled by the object whose name it belongs to, and an answer to a yes/no question that the scene answers by whether
    it is right.

    Args:
        reply: the reply.
        tokenizer: the model's.
        scene: what the image shows; None where that is not known.
    """
    if scene is None:
        return ("unknown",) * len(reply.ids)
    named = [(m.start, m.end, m.name not in scene.present) for m in mentions(reply.text)]
    truth = next((q.answer for q in scene.questions if q.kind == "existence" and q.text == reply.prompt.text), "")
    said = read_yes_no(reply.text)
    if truth and said:
        named.append((0, len(said), said != truth))
    found = token_labels(reply, named, tokenizer, whole=True)
    pairs = zip(found.hallucinated.tolist(), found.correct.tolist(), strict=True)
    return tuple("invented" if wrong else "there" if right else "none" for wrong, right in pairs)
