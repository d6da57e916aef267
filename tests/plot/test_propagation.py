"""Propagation in pictures."""

import numpy as np
import pytest
import torch

from interp.analysis.empirical import ObservedPropagation
from interp.analysis.propagation import PropagationCurves
from interp.plot.propagation import curves, observed, observed_by_token


@pytest.fixture
def result() -> PropagationCurves:
    return PropagationCurves(torch.rand(2, 3, 4), torch.arange(1, 5) / 4, (1, 6), "corrected", "identity", 0)


def test_every_head_is_a_line_and_named_ones_stand_out(ax, result) -> None:
    curves(result, [(6, 2)], ax=ax)
    assert len(ax.lines) == 7
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), result.rho[1, 2])
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), [0.25, 0.5, 0.75, 1.0])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["layer 6, head 2"]
    with pytest.raises(
        ValueError, match=r"heads \[\(0, 1\)\] were not measured; there are layers \[1, 6\] with 3 heads each"
    ):
        curves(result, [(0, 1)])


def test_without_names_the_mean_stands_out(ax, result) -> None:
    curves(result, ax=ax)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), result.rho.mean((0, 1)), rtol=1e-6)


def test_observed_propagation_by_head_and_by_token(ax) -> None:
    activated = torch.rand(2, 2, 4)
    found = ObservedPropagation(activated, activated.mean(-1), activated.mean((0, 1)), (0, 1), ("<s>", "a", "\n", "b"))
    observed(found)
    assert observed(found, ax=ax).images[0].get_clim() == (0, 1)
    bars = observed_by_token(found, most=3)
    np.testing.assert_allclose([p.get_height() for p in bars.patches], found.by_token[1:], rtol=1e-6)
    assert [t.get_text() for t in bars.get_xticklabels()] == ["a", "\\n", "b"]


def observed_of(examples) -> ObservedPropagation:
    activated = examples.waves(2, 3, 10)
    return ObservedPropagation(activated, activated.mean(-1), activated.mean((0, 1)), (0, 1), examples.words)


def curves_of(waves) -> PropagationCurves:
    return PropagationCurves(waves(2, 3, 16), torch.arange(1, 17) / 16, (1, 6), "corrected", "identity", 0)


EXAMPLES = {
    "propagation.curves": lambda examples: (curves_of(examples.waves), [(6, 2)]),
    "propagation.observed": lambda examples: (observed_of(examples),),
    "propagation.observed_by_token": lambda examples: (observed_of(examples),),
}
