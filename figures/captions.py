"""Captions of drawn scenes with the first tokens of their correct and hallucinated mentions, which most figures measure."""

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

CAPTION = "Describe the image in detail."


@final
@dataclass(frozen=True)
class Captioned:
    """A scene, the prompt with its greedy caption, and masks over the reply's tokens.

    Args:
        scene: the drawn scene.
        prompt: the conversation with the reply, teacher-forced.
        reply: the reply.
        hallucinated: the first token of every mention of an absent object.
        correct: the first token of every mention of an object in the image.
    """

    scene: Any
    prompt: Any
    reply: Any
    hallucinated: Tensor
    correct: Tensor


def captioned(
    model: Any, n: int, seed: int, *interventions: Any, split: str = "test", batch: int = 16
) -> list[Captioned]:
    """Return n scenes with their captions; of `counter_prior` those with the trigger, which invite most hallucinations."""
    import interp
    from interp.world import scenes

    if split == "counter_prior":
        drawn = [s for s in scenes(split, 2 * n, seed) if s.counter is not None and not s.counter.control]
    else:
        drawn = scenes(split, n, seed)
    prompts = [model.prepare(s.image, CAPTION) for s in drawn]
    replies = [
        reply
        for i in range(0, n, batch)
        for reply in interp.generate(model, prompts[i : i + batch], *interventions, max_new_tokens=100)
    ]
    return [_labelled(model, s, p, r) for s, p, r in zip(drawn, prompts, replies, strict=True)]


def _labelled(model: Any, scene: Any, prompt: Any, reply: Any) -> Captioned:
    from interp.analysis.token_labels import token_labels
    from interp.world import mentions

    named = [(m.start, m.end, m.name not in scene.present) for m in mentions(reply.text)]
    marked = token_labels(reply, named, model.tokenizer)
    return Captioned(scene, prompt.with_response(reply), reply, marked.hallucinated, marked.correct)
