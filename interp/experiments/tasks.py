"""The three tasks of SPEAR's causal study on scenes of the drawn world, scored with their ground truth."""

from collections.abc import Callable, Sequence

from interp.data.prompt import Reply
from interp.experiments.sinks import Task
from interp.models.model import Model
from interp.world import Scene, mentions
from interp.world.questions import Question
from interp.world.scoring import invented, read_yes_no, steps_in_order
from interp.world.wording import DETAILED


def drawn_tasks(model: Model, about: Sequence[Scene]) -> list[Task]:
    """Return a caption, a question about an object that is absent, and a question in several steps, for every scene that has one.

    `quality` is the share of visible classes that are named, the share of right answers, and the share of right steps;
    `hallucinated` is whether an absent object is named, or the answer is yes.

    References: SPEAR, section 3 (the three tasks). Differs: scenes with exact ground truth instead of judged replies.
    """
    absent = _asked(about, lambda q: q.probe == "adversarial" and q.answer == "No")
    steps = _asked(about, lambda q: q.kind == "steps")

    def caption(index: int, reply: Reply) -> dict[str, float]:
        named, seen = {m.name for m in mentions(reply.text)}, set(about[index].visible)
        return {
            "quality": len(named & seen) / max(len(seen), 1),
            "hallucinated": float(any(invented(reply.text, about[index]))),
        }

    def no(index: int, reply: Reply) -> dict[str, float]:
        said = read_yes_no(reply.text)
        return {"quality": float(said == "No"), "hallucinated": float(said == "Yes")}

    def stepwise(index: int, reply: Reply) -> dict[str, float]:
        right, _ = steps_in_order(reply.text, steps[index][1])
        return {"quality": sum(right) / len(right), "hallucinated": float(any(invented(reply.text, steps[index][0])))}

    return [
        Task("caption", [model.prepare(s.image, DETAILED[0]) for s in about], caption, 100),
        Task("absent object", [model.prepare(s.image, q.text) for s, q in absent], no, 8),
        Task("several steps", [model.prepare(s.image, q.text) for s, q in steps], stepwise, 120),
    ]


def _asked(about: Sequence[Scene], wanted: Callable[[Question], bool]) -> list[tuple[Scene, Question]]:
    """Return every scene with its first question of a kind."""
    found = [(s, next((q for q in s.questions if wanted(q)), None)) for s in about]
    return [(s, q) for s, q in found if q is not None]
