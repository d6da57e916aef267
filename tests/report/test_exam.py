"""The exam of a study: its questions, and its outcome under a variant."""

import interp
from interp.data.tokens import Segment
from interp.interventions.attention import ScaleScores
from interp.report.exam import build_exam, run_exam
from interp.report.reply_view import Variant
from interp.world import scenes


def test_no_question_is_asked_twice_and_half_are_about_what_is_there(study) -> None:
    asked = [(id(p.images[0]), p.text) for _, p in study.exam.yes_no]
    pairs = [
        (scene.signature, q.text) for scene in study.exam.scenes for q, _ in study.exam.yes_no if q in scene.questions
    ]
    assert len(set(asked)) == len(asked)
    assert pairs
    answers = [q.answer for q, _ in study.exam.yes_no]
    assert answers.count("Yes") == answers.count("No") > 0
    for scene in study.exam.scenes:
        mine = [q for q, _ in study.exam.yes_no if any(q is one for one in scene.questions)]
        assert all((q.subject in scene.visible) == (q.answer == "Yes") for q in mine)


def test_captions_are_the_models_own_replies(study) -> None:
    model = interp.load("scenes")
    alone = interp.generate(model, study.exam.captions[1], max_new_tokens=80)
    assert study.outcomes[0].replies[1].ids == alone.ids


def test_a_variant_is_what_generate_does_with_its_interventions(study) -> None:
    model = interp.load("scenes")
    masked = study.outcomes[1]
    alone = interp.generate(model, study.exam.captions[0], *masked.variant.interventions, max_new_tokens=80)
    assert masked.replies[0].ids == alone.ids


def test_the_baseline_does_not_differ_from_itself(study) -> None:
    answers, captions = study.outcomes[0].differs(study.outcomes[0])
    assert (answers.hits, captions.hits) == (0, 0)
    assert answers.n == len(study.exam.yes_no) + len(study.exam.others)


def test_an_intervention_without_effect_is_noted() -> None:
    model = interp.load("scenes")
    exam = build_exam(model, scenes("test", 1))
    neutral = Variant("same", (ScaleScores(Segment.IMAGE, 1.0),))
    assert run_exam(model, exam, neutral, lambda _: None).note.startswith("It changed no value")
    assert run_exam(model, exam, Variant("plain"), lambda _: None).note == ""
