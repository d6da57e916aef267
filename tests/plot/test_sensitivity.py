"""Head sensitivity in pictures."""

import numpy as np
import torch

from interp.analysis.sensitivity import Erasure, FirstOrder, sensitivity
from interp.plot.sensitivity import effect_sizes, erasure, estimates, first_order, strongest

ERASED = Erasure(
    torch.tensor([[[0.25, 0.5], [0.5, 0.9]]]).log(), torch.tensor([0.5, 0.5]).log(), (3, 4), ("a", "b"), "step"
)


def test_erasure_is_the_mean_change_of_probability(ax) -> None:
    np.testing.assert_allclose(erasure(ERASED, ax=ax).images[0].get_array(), [[0.125, -0.2]], rtol=1e-5)
    effect = torch.tensor([[[1.0, 3.0]], [[0.0, -1.0]]])
    np.testing.assert_allclose(first_order(FirstOrder(effect, (2, 3), (3, 4))).images[0].get_array(), [[2.0], [-0.5]])


def test_the_strongest_heads_come_first_and_are_filled_when_sure(ax) -> None:
    bad, good = torch.randn(2, 3, 40) * 0.1, torch.randn(2, 3, 50) * 0.1
    bad[1, 2] += 1
    result = sensitivity(bad, good)
    strongest(result, 2, ax=ax)
    assert ax.get_yticklabels()[0].get_text() == "1.2"
    assert len(ax.get_yticklabels()) == 2
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] == result.score[1, 2]
    assert dots[0].get_markerfacecolor() != "white"
    assert dots[1].get_markerfacecolor() == "white"


def test_effect_sizes_say_how_many_tokens_there_were(ax) -> None:
    effect_sizes(sensitivity(torch.zeros(1, 2, 0), torch.rand(1, 2, 3)), ax=ax)
    assert "n = 0 hallucinated, 3 correct" in ax.get_title(loc="left") + ax.get_title()


def test_estimates_stand_against_the_exact_change(ax) -> None:
    exact = torch.tensor([[[0.5, torch.nan]]])
    estimates(exact, torch.tensor([[[0.4, 9.0]]]), ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0.5, 0.4]], rtol=1e-6)


def erased(waves) -> Erasure:
    arrays = (waves(3, 4, 5) + 0.1).log(), (waves(5, start=1.0) + 0.1).log()
    return Erasure(*arrays, (3, 4, 5, 6, 7), tuple("abcde"), "step")


def ranked(waves):
    hallucinated = waves(3, 4, 20) + torch.tensor([0.8, 0, 0, 0])[:, None]
    return sensitivity(hallucinated, waves(3, 4, 30, start=1.0), resamples=50)


EXAMPLES = {
    "sensitivity.erasure": lambda examples: (erased(examples.waves),),
    "sensitivity.first_order": lambda examples: (
        FirstOrder(examples.waves(3, 4, 5) - 0.5, (0, 1, 2), (3, 4, 5, 6, 7)),
    ),
    "sensitivity.effect_sizes": lambda examples: (ranked(examples.waves),),
    "sensitivity.strongest": lambda examples: (ranked(examples.waves),),
    "sensitivity.estimates": lambda examples: (examples.waves(3, 4, 5), examples.waves(3, 4, 5) ** 2),
}
