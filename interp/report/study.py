"""The demo's study: what the model can do on scenes it never saw, what it attends to, and what breaks without its resting token."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from interp.data.tokens import Segment
from interp.interventions.attention import MaskAttention
from interp.interventions.values import ZeroValues
from interp.models.model import Model
from interp.report.asking import LONGEST, Exam, Outcome, Tell, Treatment, exam, examine
from interp.report.comparison import Comparison, compare
from interp.report.looking import Look, Resting, look, mean_shares, resting
from interp.report.reading import Variant
from interp.world import scenes

LOOKED = 16
"""Scenes on which attention is measured, at most."""


@final
@dataclass(frozen=True, eq=False)
class Study:
    """Everything the report shows.

    Args:
        model: the model in words.
        n: scenes asked about.
        seed: of the scenes.
        questions: what was asked.
        outcomes: by treatment; the first is the model as it is.
        looks: replies that were looked into; the first is shown in pictures.
        rest: the tokens attention rests on.
        by_layer: shares of attention by layer.
        by_step: shares of attention along the reply.
        compared: the reply shown, and what the treatments make of it.
    """

    model: str
    n: int
    seed: int
    questions: Exam = field(repr=False)
    outcomes: tuple[Outcome, ...]
    looks: tuple[Look, ...] = field(repr=False)
    rest: Resting
    by_layer: Float[Tensor, "layer segment"] = field(repr=False)
    by_step: Float[Tensor, "step segment"] = field(repr=False)
    compared: Comparison = field(repr=False)

    @property
    def shown(self) -> Look:
        """The reply that is shown in pictures."""
        return self.looks[0]

    @property
    def inside(self) -> dict[str, float]:
        """Of attention and saliency on the image, the part inside the named object's box, and the box's part of the image; means."""
        usable = [one for one in self.looks if one.objects]
        if not usable:
            return {}
        pairs = [(one.inside(one.attention), one.inside(one.saliency)) for one in usable]
        count = len(usable)
        return {
            "attention": sum(a[0] for a, _ in pairs) / count,
            "saliency": sum(s[0] for _, s in pairs) / count,
            "area": sum(a[1] for a, _ in pairs) / count,
            "replies": count,
        }


def study(model: Model, n: int, seed: int, tell: Tell) -> Study:
    """Ask, look, find the resting token, take it away, and ask again.

    Args:
        model: the model.
        n: held-out scenes to ask about.
        seed: of the scenes.
        tell: called with what is being done; `units(n)` says how often.
    """
    tell("questions and images")
    questions = exam(model, scenes("test", n, seed))
    plain = Treatment("as it is", "The model without any change.")
    before = examine(model, questions, plain, tell)
    looks = _looks(model, questions, before, tell)
    rest = resting(looks)
    by_layer, by_step = mean_shares(looks, rest)
    after = [examine(model, questions, t, tell) for t in treatments(rest)]
    tell("one reply, token by token")
    compared = _compared(model, questions, looks[0], rest, seed)
    return Study(repr(model), n, seed, questions, (before, *after), looks, rest, by_layer, by_step, compared)


def units(n: int) -> int:
    """Return how many steps of work a study of n scenes tells of, about."""
    batches = sum(-(-size // 64) for size in (n, 4 * n, 2 * n))
    return 2 + min(n, LOOKED) + 4 * batches


def treatments(rest: Resting) -> tuple[Treatment, ...]:
    """Return what is done to the resting token, and the control."""
    text = Segment.USER | Segment.RESPONSE
    kind = "sink" if rest.found else "most attended token (no sink)"
    said = ", ".join(repr(w) for w in rest.words)
    return (
        Treatment(
            f"{kind} masked",
            f"The question and the reply cannot see {said}: their attention goes to the other tokens.",
            (MaskAttention(keys=rest.positions, queries=text),),
        ),
        Treatment(
            "control masked",
            f"The same for {rest.control_word!r} (position {rest.control}), the most attended other token before the image.",
            (MaskAttention(keys=rest.control, queries=text),),
        ),
        Treatment(
            f"{kind} carries nothing",
            f"{said} can be attended to as before, but its value vectors are zero in every layer.",
            (ZeroValues(keys=rest.positions),),
        ),
    )


def _looks(model: Model, questions: Exam, before: Outcome, tell: Tell) -> tuple[Look, ...]:
    found: list[Look] = []
    for scene, prompt, reply in zip(questions.about[:LOOKED], questions.captions, before.replies, strict=False):
        tell("one pass over a reply: attention, gradients, residual stream")
        found.append(look(model, scene, prompt, reply.ids))
    return tuple(sorted(found, key=_unclear))


def _compared(model: Model, questions: Exam, shown: Look, rest: Resting, seed: int) -> Comparison:
    index = questions.about.index(shown.scene)
    variants = [Variant(t.name, t.interventions) for t in treatments(rest)]
    image = f"scene {index} of the split test, seed {seed}"
    return compare(
        model, questions.captions[index], variants, image=image, scene=shown.scene, longest=LONGEST["caption"]
    )


def _unclear(one: Look) -> tuple[bool, bool]:
    """Order replies: first those whose word names one object that is there and seen whole."""
    return (not one.objects, len(one.objects) != 1 or one.objects[0].visible < 0.9)
