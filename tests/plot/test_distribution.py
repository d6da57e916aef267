"""The distribution of attention in pictures."""

import math

import numpy as np
import pytest
import torch

from interp.analysis.distribution import AttentionDistribution
from interp.plot.distribution import distribution, distribution_correlation, distribution_variance
from interp.plot.pictures import picture


@pytest.fixture
def result() -> AttentionDistribution:
    variance, entropy = torch.tensor([[0.1, 0.0], [0.3, 0.01]]), torch.tensor([[1.0, 2.0], [0.5, 1.5]])
    correlation = torch.tensor([[-1.0, math.nan], [-0.5, -0.7]])
    return AttentionDistribution(variance, entropy, entropy / 2, correlation, torch.tensor([-1.0, -0.2]), (3, 4), 5)


def test_entropy_is_the_picture(ax, result) -> None:
    np.testing.assert_allclose(distribution(result, ax=ax).images[0].get_array(), result.entropy)
    assert len(picture(result).images) == 1


def test_every_head_is_a_point(ax, result) -> None:
    points = distribution_variance(result, ax=ax).collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[1, 0.1], [2, 0], [0.5, 0.3], [1.5, 0.01]], rtol=1e-6)
    assert points.get_array().tolist() == [3, 3, 4, 4]
    assert ax.get_yscale() == "log"


def test_correlations_leave_out_what_is_not_defined(ax, result) -> None:
    distribution_correlation(result, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [-1.0, -0.6], rtol=1e-6)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [-1.0, -0.2], rtol=1e-6)


def spread(waves) -> AttentionDistribution:
    arrays = waves(3, 4) / 10, 2 * waves(3, 4, start=2.0), waves(3, 4), -waves(3, 4), waves(3) - 1
    return AttentionDistribution(*arrays, (3, 4, 5), 5)


EXAMPLES = {
    "distribution.distribution": lambda examples: (spread(examples.waves),),
    "distribution.distribution_variance": lambda examples: (spread(examples.waves),),
    "distribution.distribution_correlation": lambda examples: (spread(examples.waves),),
}
