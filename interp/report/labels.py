"""Labels of reply tokens: whether the object that a token names is in the image. Known for drawn scenes only."""

from typing import Any, Final

from interp.analysis.token_labels import token_labels
from interp.data.prompt import Reply
from interp.world import Scene, mentions
from interp.world.scoring import read_yes_no

TOKEN_LABELS: Final = {
    "there": "names an object that is in the image, or answers correctly",
    "invented": "names an object that is not in the image, or answers wrongly",
    "none": "names no object",
    "unknown": "the content of this image is not known",
}
"""Every label of a token, with its meaning."""


def label_tokens(reply: Reply, tokenizer: Any, scene: Scene | None) -> tuple[str, ...]:
    """Return the label of every token of a reply, one of `TOKEN_LABELS`.

    A token that belongs to the name of an object is labelled by whether that object is in the scene; the answer to a yes/no question
    about the scene, by whether it is correct.

    Args:
        reply: the reply.
        tokenizer: the tokenizer of the model.
        scene: the content of the image; None where it is unknown.
    """
    if scene is None:
        return ("unknown",) * len(reply.ids)
    named = [(m.start, m.end, m.name not in scene.present) for m in mentions(reply.text)]
    truth = next((q.answer for q in scene.questions if q.kind == "existence" and q.text == reply.prompt.text), "")
    answer = read_yes_no(reply.text)
    if truth and answer:
        named.append((0, len(answer), answer != truth))
    labels = token_labels(reply, named, tokenizer, whole=True)
    pairs = zip(labels.hallucinated.tolist(), labels.correct.tolist(), strict=True)
    return tuple("invented" if wrong else "there" if right else "none" for wrong, right in pairs)
