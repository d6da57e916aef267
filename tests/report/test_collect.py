"""What the pages show, collected once: comparisons and studies."""

from dataclasses import replace

import pytest

import interp
from interp.methods.spear import Spear
from interp.report.collect import compare_replies, count_steps, sink_variants
from interp.report.reply_view import Variant
from interp.world import scenes


def test_the_scenes_are_held_out(study) -> None:
    assert [s.signature for s in study.exam.scenes] == [s.signature for s in scenes("test", 3)]


def test_progress_is_reported_as_often_as_announced(study, steps) -> None:
    assert len(steps) == count_steps(3)


def test_a_study_compares_the_captions_that_its_exam_has(study) -> None:
    views = study.comparison.views
    assert [v.variant.name for v in views] == ["baseline", *(o.variant.name for o in study.outcomes[1:])]
    assert [v.reply for v in views] == [o.replies[study.shown_index] for o in study.outcomes]
    assert study.comparison.prompt.text == study.exam.captions[study.shown_index].text


def test_variants_mask_the_sinks_a_control_and_the_values(study) -> None:
    masked, control, zeroed = sink_variants(study.sinks)
    assert (masked.name, control.name, zeroed.name) == ("sink masked", "control masked", "sink without values")
    none = replace(study.sinks, found=False)
    assert sink_variants(none)[0].name == "most attended token (no sink) masked"


def test_every_method_is_resolved_once(scene, monkeypatch) -> None:
    calls = []
    plain = Spear.mark
    monkeypatch.setattr(Spear, "mark", lambda *given: calls.append(1) or plain(*given))
    model = interp.load("scenes")
    prompt = model.prepare(scene.image, "Describe the image in detail.")
    compare_replies(model, prompt, [Variant("one", (Spear(),)), Variant("other", (Spear(enhance=3.0),))], longest=5)
    assert len(calls) == 2


def test_the_baseline_reply_is_forced_through_every_variant(compared) -> None:
    first, spear, _ = compared.forced
    own = compared.views[0].reply.logprobs
    assert first.logprobs == pytest.approx(own, abs=2e-3)
    assert len(spear.logprobs) == len(own)
    assert compared.truth
    assert [len(labels) for labels in compared.labels] == [len(v.reply.ids) for v in compared.views]


def test_a_response_takes_the_place_of_the_baseline_reply(scene) -> None:
    model = interp.load("scenes")
    prompt = model.prepare(scene.image, "Is there a dog in the image?")
    given = compare_replies(model, prompt, [Variant("spear", (Spear(),))], response="Yes, there is.", longest=5)
    assert given.views[0].reply.text == "Yes, there is."
    assert given.views[1].reply.text == interp.generate(model, prompt, Spear(), max_new_tokens=5).text
    with pytest.raises(ValueError, match="the response is empty"):
        compare_replies(model, prompt, response="")
