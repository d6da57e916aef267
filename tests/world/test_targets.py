"""Targets: what counts as met, and what an untrained model is refused for."""

import pytest

from interp.world.scoring import Rate, YesNoScores
from interp.world.targets import _within, f1_score


def test_f1_is_that_of_the_answer_yes():
    found = YesNoScores(
        accuracy=Rate(14, 20), yes=Rate(12, 20), false_yes=Rate(4, 10), false_no=Rate(2, 10), unreadable=Rate(0, 20)
    )
    assert f1_score(found) == pytest.approx(2 * 8 / (2 * 8 + 4 + 2))


def test_a_target_has_two_ends():
    assert _within("a", 0.5, 0.4, 0.6).met
    assert not _within("a", 0.7, 0.4, 0.6).met
    assert not _within("a", 0.3, 0.4).met
    assert not _within("a", float("nan"), 0.4).met
