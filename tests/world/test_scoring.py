"""Scores of made-up replies with known answers."""

import pytest

from interp.world import Object, Question
from interp.world.scene import Scene
from interp.world.scoring import Rate, plain, rate, read_yes_no, score_captions, score_yes_no, steps_in_order


def scene(*objects):
    return Scene("park", objects, (0,))


CUP = Object("cup", "red", (32, 32), 12)
HIDDEN = Object("dog", "red", (32, 32), 12, visible=0.2)
GONE = Object("cat", "red", (32, 32), 12, visible=0.05)


def test_rates_have_wilson_intervals():
    found = rate([True] * 8 + [False] * 2)
    assert found == Rate(8, 10)
    assert found.value == pytest.approx(0.8)
    assert found.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson (1927), as statsmodels gives it
    assert str(found) == "0.800 [0.490, 0.943]"
    assert Rate(0, 0).interval == (0.0, 1.0)


def test_captions_are_scored_against_what_is_there():
    found = score_captions(["a cup, a dog and a ball", "a park with a cat"], [scene(CUP, HIDDEN), scene(CUP, GONE)])
    assert found.chair_s == Rate(2, 2)
    assert found.chair_i == Rate(2, 4)
    assert found.recall == Rate(1, 2)
    assert found.by_index == (Rate(1, 2), Rate(0, 1), Rate(1, 1))
    assert score_captions(["a cup"], [scene(CUP)]).chair_s == Rate(0, 1)


def test_yes_and_no_are_read():
    assert [read_yes_no(t) for t in ("Yes", "yes, there is.", "No.", "a cup", "")] == ["Yes", "Yes", "No", "", ""]
    asked = [Question("existence", "?", answer) for answer in ("Yes", "Yes", "No", "No")]
    found = score_yes_no(["Yes", "No", "Yes", "maybe"], asked)
    assert (found.accuracy, found.yes) == (Rate(1, 4), Rate(2, 4))
    assert (found.false_yes, found.false_no, found.unreadable) == (Rate(1, 2), Rate(1, 2), Rate(1, 4))


def test_steps_are_looked_for_in_order():
    steps = ("First, the image shows a park.", "Second, there are two objects.")
    question = Question("steps", "?", " ".join(steps), steps=steps)
    assert steps_in_order(question.answer, question) == ([True, True], True)
    assert steps_in_order(" ".join(steps[::-1]), question) == ([True, True], False)
    assert steps_in_order("First, the image shows a park.", question) == ([True, False], False)
    assert plain("a cup , a dog .") == "a cup, a dog."
