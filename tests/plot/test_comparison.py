"""Hallucinated and correct tokens in pictures."""

import numpy as np
import pytest
import torch

from interp.analysis.statistics import compare_groups
from interp.plot.comparison import distributions, hallucination

SCORE = torch.tensor([0.1, 0.2, 0.3, 0.6])
BAD = torch.tensor([True, True, False, False])


def test_distributions_name_the_groups_and_say_the_area(ax) -> None:
    distributions(compare_groups(SCORE, BAD, resamples=50), "saliency", ax=ax)
    assert [line.get_label() for line in ax.lines] == ["hallucinated (n = 2)", "correct (n = 2)"]
    assert ax.get_title(loc="left") + ax.get_title() == "AUROC 1.00 [1.00, 1.00]"


def test_rates_stand_at_their_ranges_with_the_overall_share(ax) -> None:
    hallucination(compare_groups(SCORE, BAD, bins=2, resamples=50), ax=ax)
    points = [container.lines[0].get_xydata()[0] for container in ax.containers]
    np.testing.assert_allclose(points, [[0.175, 1.0], [0.425, 0.0]], rtol=1e-6)
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(0.5)


def test_one_group_alone_or_nothing_at_all_can_be_drawn(ax) -> None:
    alone = compare_groups(SCORE, torch.zeros(4).bool())
    distributions(alone, ax=ax)
    assert "n = 0 hallucinated, 4 correct" in ax.get_title(loc="left") + ax.get_title()
    nothing = compare_groups(torch.zeros(0), torch.zeros(0).bool())
    assert not distributions(nothing).lines
    assert not hallucination(nothing).containers


def compared(waves):
    hallucinated = torch.arange(60) % 4 == 0
    return compare_groups(waves(60) - 0.2 * hallucinated, hallucinated, resamples=50)


EXAMPLES = {
    "comparison.distributions": lambda examples: (compared(examples.waves),),
    "comparison.hallucination": lambda examples: (compared(examples.waves),),
}
