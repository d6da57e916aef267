"""Questions in several steps about drawn scenes."""

import numpy as np
import pytest

from interp.bench.base import Sample, compute_scores
from interp.bench.steps import Steps
from interp.world import scenes


def test_the_questions_are_those_of_the_scenes():
    bench = Steps(n=6, seed=1)
    about = scenes("test", 6, 1)
    samples = bench.samples()
    assert samples
    for sample in samples:
        scene = about[int(sample.image)]
        question = next(q for q in scene.questions if q.kind == "steps")
        assert (sample.question, sample.truth["answer"]) == (question.text, question.answer)
        np.testing.assert_array_equal(np.asarray(bench.image(sample)), scene.pixels)


def test_the_true_answer_is_right_in_every_step_and_another_is_not():
    bench = Steps(n=6, seed=1)
    samples = bench.samples()
    right = [(s, bench.read(s.truth["answer"], s)) for s in samples]
    assert compute_scores(bench, right)["total"] == {"steps": 1, "whole": 1, "ordered": 1}
    wrong = [(s, bench.read("I do not know.", s)) for s in samples]
    assert compute_scores(bench, wrong)["total"] == {"steps": 0, "whole": 0, "ordered": 0}


def test_scores_by_hand():
    bench, sample = Steps(), Sample("1", "?")
    read = [
        (sample, {"right": [True, False, True], "ordered": True}),
        (Sample("2", "?"), {"right": [True], "ordered": False}),
    ]
    assert compute_scores(bench, read)["total"] == pytest.approx({"steps": 3 / 4, "whole": 1 / 2, "ordered": 1 / 2})
    assert bench.outcome(*read[0]) == {"whole": False, "steps": pytest.approx(2 / 3)}
