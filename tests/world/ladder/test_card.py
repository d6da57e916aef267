"""The page of a model, from figures made by hand."""

from dataclasses import replace

import pytest

from interp.world.decision import Shift
from interp.world.evaluation import Pair
from interp.world.evidence import EVIDENCE_EDGES, NOISE_EDGES, Binned, Inventions
from interp.world.ladder.card import measured_page
from interp.world.scoring import CaptionScores, Rate, YesNoScores
from interp.world.targets import Existence, Measured, compare


def share(value, n=1000):
    return Rate(round(value * n), n)


def existence(f1, false_yes, false_no):
    accuracy = 1 - (false_yes + false_no) / 2
    scores = YesNoScores(share(accuracy), share(0.5), share(false_yes), share(false_no), share(0.0))
    return Existence(scores, f1)


def inventions(values):
    return Inventions(
        by_noise=Binned(NOISE_EDGES, tuple(share(value) for value in values)),
        missed=Binned(EVIDENCE_EDGES, tuple(share(0.1) for _ in EVIDENCE_EDGES[1:])),
        by_slot=tuple(share(value) for value in (0.02, 0.05, 0.1, 0.1)),
        expected=share(0.2),
        unexpected=share(0.01),
        repeated=share(0.01),
        longer=40.0,
    )


@pytest.fixture
def found():
    captions = CaptionScores(share(0.3), share(0.1), share(0.85), (), 40.0)
    kinds = ("colour", "where", "count", "place", "at", "order")
    return Measured(
        existence={"adversarial": existence(0.85, 0.2, 0.1)},
        existence_clear={"adversarial": existence(0.97, 0.02, 0.02)},
        captions=captions,
        captions_clear=captions,
        inventions=inventions((0.1, 0.2, 0.3, 0.4, 0.5)),
        inventions_clear=inventions((0.1, 0.1, 0.1, 0.1, 0.1)),
        answers=dict.fromkeys(kinds, share(0.9)),
        answers_ordinary=dict.fromkeys(kinds, share(0.7)),
        steps=share(0.7),
        forms=dict.fromkeys(("position", "color", "count"), share(0.9)),
        pairs={"which": share(0.95)},
        counter=(Pair("table", "chair", share(0.4), share(0.04), share(0.5), share(0.1)),),
    )


def test_a_model_in_the_regime_meets_every_target(found):
    assert [target.wanted for target in compare(found) if not target.met] == []


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"existence": {"adversarial": existence(0.97, 0.02, 0.01)}}, "existence, adversarial, all noise"),
        ({"existence": {"adversarial": existence(0.85, 0.1, 0.2)}}, "more false yes than false no"),
        ({"steps": share(0.5)}, "all steps right"),
        ({"inventions": inventions((0.5, 0.4, 0.3, 0.2, 0.1))}, "inventions rise with the noise"),
        ({"pairs": {"which": share(0.6)}}, "two images told apart"),
    ],
)
def test_what_is_missed_is_said(found, changes, missed):
    wrong = [target.wanted for target in compare(replace(found, **changes)) if not target.met]
    assert len(wrong) == 1
    assert wrong[0].startswith(missed)


def test_the_page_has_every_figure_with_its_interval(found, tiny):
    text = measured_page(found, tiny, n=1000)
    assert text.startswith("# tiny: a small LLaVA")
    assert "met |" in text
    assert "**missed**" not in text
    assert "| clear | adversarial | 0.970 |" in text
    assert "0.300 [0.272, 0.329] (1000)" in text
    assert "| chair given table | 0.400" in text
    assert "decided" not in text
    shift = Shift("image", trigger=0.3, control=0.1, change=0.1, error=0.01, n=98)
    assert "| image | 0.300 | 0.100 | +0.100 [+0.080, +0.120] |" in measured_page(found, tiny, n=1000, shifts=[shift])
