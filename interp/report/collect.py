"""Everything that the pages show, collected once.

`compare_replies` collects the page about one question: the replies of several variants, each with what one pass over it gives, and the
baseline's reply forced through every variant. `collect_study` collects the page about the embedded model: an exam under several
variants, sixteen replies viewed in one pass each, the sinks that they have in common, and a comparison of one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

from jaxtyping import Float
from torch import Tensor

from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.interventions.attention import MaskAttention
from interp.interventions.method import Resolved, resolve
from interp.interventions.values import ZeroValues
from interp.models.model import Model
from interp.report.exam import EXAM_BATCH, Exam, Outcome, Progress, build_exam, run_exam
from interp.report.labels import label_tokens
from interp.report.reply_view import (
    BASELINE,
    ForcedReply,
    ReplyView,
    Variant,
    encode_reply,
    force_reply,
    generate_reply,
    view_reply,
)
from interp.report.scene_reply import CommonSinks, SceneReply, find_common_sinks, mean_shares, view_scene_reply
from interp.world import Scene
from interp.world import scenes as held_out

VIEWED_SCENES: Final = 16
"""Scenes whose replies are viewed in a pass each, at most."""


@final
@dataclass(frozen=True, eq=False)
class ReplyComparison:
    """One question under several variants.

    Args:
        model: the model, as text.
        prompt: the question.
        image: the name of its image.
        views: the replies, one per variant; the first is the baseline.
        forced: the first reply, forced through every variant.
        labels: the labels of every token of every reply.
        truth: the content of the image, in words; empty where it is unknown.
    """

    model: str
    prompt: Prompt = field(repr=False)
    image: str
    views: tuple[ReplyView, ...]
    forced: tuple[ForcedReply, ...] = field(repr=False)
    labels: tuple[tuple[str, ...], ...] = field(repr=False)
    truth: str = ""


@final
@dataclass(frozen=True, eq=False)
class Study:
    """Everything that the page about the embedded model shows.

    Args:
        model: the model, as text.
        n: the number of scenes in the exam.
        seed: seed of the scenes.
        exam: the questions.
        outcomes: the results by variant; the first is the baseline.
        replies: the replies that were viewed; the figures show the first.
        sinks: the sinks that the replies have in common.
        by_layer: mean shares of attention by layer.
        by_step: mean shares of attention along the reply.
        comparison: the reply that the figures show, and the replies of the other variants.
    """

    model: str
    n: int
    seed: int
    exam: Exam = field(repr=False)
    outcomes: tuple[Outcome, ...]
    replies: tuple[SceneReply, ...] = field(repr=False)
    sinks: CommonSinks
    by_layer: Float[Tensor, "layer segment"] = field(repr=False)
    by_step: Float[Tensor, "step segment"] = field(repr=False)
    comparison: ReplyComparison = field(repr=False)

    @property
    def shown(self) -> SceneReply:
        """The reply that the figures show."""
        return self.replies[0]

    @property
    def shown_index(self) -> int:
        """The index of its scene in the exam."""
        return self.exam.scenes.index(self.shown.scene)

    @property
    def inside(self) -> dict[str, float]:
        """The share of attention and saliency on the image that lies in the named object's box, and the box's share; means."""
        usable = [one for one in self.replies if one.objects]
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


def compare_replies(
    model: Model,
    prompt: Prompt,
    variants: Sequence[Variant] = (),
    *,
    image: str = "",
    scene: Scene | None = None,
    response: str | None = None,
    longest: int = 128,
) -> ReplyComparison:
    """Return the replies of the baseline and of variants to one question, with what one pass over each gives.

    Args:
        model: the model.
        prompt: the question.
        variants: the variants.
        image: the name of the image.
        scene: the content of the image, where it is known; it labels the tokens.
        response: a text to view in place of the baseline's reply.
        longest: the longest reply, in tokens.

    Raises:
        ValueError: the response is empty, or an intervention does not fit the model.
    """
    every = (BASELINE, *variants)
    resolved = [resolve(model, [prompt], v.interventions) for v in every]
    given = [] if response is None else [encode_reply(model, resolved[0], response)]
    replies = given + [generate_reply(model, r, longest) for r in resolved[len(given) :]]
    views = [view_reply(model, *one) for one in zip(every, resolved, replies, strict=True)]
    return _compare(model, views, resolved, image, scene)


def _compare(
    model: Model, views: Sequence[ReplyView], resolved: Sequence[Resolved], image: str, scene: Scene | None
) -> ReplyComparison:
    first = views[0]
    forced = tuple(force_reply(model, r, first.reply.ids, first.sinks.positions) for r in resolved)
    labels = tuple(label_tokens(v.reply, model.tokenizer, scene) for v in views)
    truth = "" if scene is None else scene.captions["detailed"]
    return ReplyComparison(repr(model), first.reply.prompt, image, tuple(views), forced, labels, truth)


def collect_study(model: Model, n: int, seed: int, progress: Progress) -> Study:
    """Return the study of a model: an exam, the sinks of its replies, and the exam again without the sinks.

    Args:
        model: the model.
        n: the number of held-out scenes in the exam.
        seed: seed of the scenes.
        progress: called before each unit of work; `count_steps(n)` is the number of calls.
    """
    progress("questions and images")
    exam = build_exam(model, held_out("test", n, seed))
    baseline = run_exam(model, exam, BASELINE, progress)
    replies = _view_replies(model, exam, baseline, progress)
    sinks = find_common_sinks(replies)
    by_layer, by_step = mean_shares(replies, sinks)
    outcomes = (baseline, *(run_exam(model, exam, v, progress) for v in sink_variants(sinks)))
    progress("one reply, token by token")
    comparison = _compare_outcomes(model, exam, outcomes, replies[0], seed)
    return Study(repr(model), n, seed, exam, outcomes, replies, sinks, by_layer, by_step, comparison)


def count_steps(n: int) -> int:
    """Return how often a study of n scenes reports progress, approximately."""
    batches = sum(-(-size // EXAM_BATCH) for size in (n, 4 * n, 2 * n))
    return 2 + min(n, VIEWED_SCENES) + 4 * batches


def sink_variants(sinks: CommonSinks) -> tuple[Variant, ...]:
    """Return the variants that mask the sinks, mask a control token, and zero the values of the sinks."""
    text = Segment.USER | Segment.RESPONSE
    kind = "sink" if sinks.found else "most attended token (no sink)"
    words = ", ".join(repr(w) for w in sinks.words)
    return (
        Variant(
            f"{kind} masked",
            (MaskAttention(keys=sinks.positions, queries=text),),
            f"The question and the reply cannot attend to {words}; their attention goes to the other tokens.",
        ),
        Variant(
            "control masked",
            (MaskAttention(keys=sinks.control, queries=text),),
            f"The same for {sinks.control_word!r} (position {sinks.control}), the most attended other token before the image.",
        ),
        Variant(
            f"{kind} without values",
            (ZeroValues(keys=sinks.positions),),
            f"{words} can be attended to as before, but its value vectors are zero in every layer.",
        ),
    )


def _view_replies(model: Model, exam: Exam, baseline: Outcome, progress: Progress) -> tuple[SceneReply, ...]:
    viewed: list[SceneReply] = []
    for scene, reply in zip(exam.scenes[:VIEWED_SCENES], baseline.replies, strict=False):
        progress("one pass over a reply: attention, gradients, residual stream")
        viewed.append(view_scene_reply(model, scene, reply))
    return tuple(sorted(viewed, key=_unclear))


def _compare_outcomes(
    model: Model, exam: Exam, outcomes: Sequence[Outcome], shown: SceneReply, seed: int
) -> ReplyComparison:
    """Compare the captions that the exam already has of one scene; nothing is generated again."""
    index = exam.scenes.index(shown.scene)
    resolved = [resolve(model, [exam.captions[index]], o.variant.interventions) for o in outcomes]
    rest = zip(outcomes[1:], resolved[1:], strict=True)
    views = [shown.view, *(view_reply(model, o.variant, r, o.replies[index]) for o, r in rest)]
    return _compare(model, views, resolved, f"scene {index} of the split test, seed {seed}", shown.scene)


def _unclear(one: SceneReply) -> tuple[bool, bool]:
    """Sort replies: first those whose word names a single, unoccluded object of the scene."""
    return (not one.objects, len(one.objects) != 1 or one.objects[0].visible < 0.9)
