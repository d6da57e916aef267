"""Spectra in pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.analysis.spectrum import HeadSpectra, spectrum
from interp.data.heads import HeadWeights
from interp.plot.pictures import picture
from interp.plot.spectrum import spectrum_by_head as drawn
from interp.plot.spectrum import spectrum_of_layer, spectrum_regimes


@pytest.fixture
def spectra() -> HeadSpectra:
    q, k = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    zero = torch.zeros(3, 4)
    return spectrum(lambda layer: HeadWeights(q * (layer + 1), k, q, q.mT, zero, zero, zero, 0.5), [2, 5])


def test_xi_is_a_map_of_layers_and_heads(ax, spectra) -> None:
    assert drawn(spectra, ax=ax) is ax
    np.testing.assert_allclose(ax.images[0].get_array(), spectra.xi.numpy())
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert [t.get_text() for t in ax.get_yticklabels()] == ["2", "5"]


def test_it_is_the_picture_of_a_spectrum(spectra) -> None:
    assert len(picture(spectra).images) == 1


def test_eigenvalues_of_a_layer_are_points(ax, spectra) -> None:
    spectrum_of_layer(spectra, 5, ax=ax)
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    expected = spectra.eigenvalues[1].flatten()
    np.testing.assert_allclose(points, np.stack([expected.real, expected.imag], -1), rtol=1e-6)
    assert ax.get_title(loc="left") + ax.get_title() == "layer 5"
    with pytest.raises(ValueError, match=r"layer 3 was not measured; there are \[2, 5\]"):
        spectrum_of_layer(spectra, 3)


def test_regimes_have_their_colours(ax, spectra) -> None:
    mixed = replace(spectra, regime=torch.tensor([[0, 1, 2], [0, 0, 1]]))
    spectrum_regimes(mixed, ax=ax)
    assert [len(c.get_offsets()) for c in ax.collections] == [3, 2, 1]
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["uniform", "localised", "vanishing", "|ξ η| = 1"]
    x, y = ax.lines[1].get_data()
    np.testing.assert_allclose(np.asarray(x) * np.asarray(y), 1, rtol=1e-5)


def spectra_of(waves) -> HeadSpectra:
    q, k, none = waves(3, 4, 8) - 0.5, waves(3, 4, 8, start=1.0) - 0.5, torch.zeros(3, 4)
    return spectrum(lambda layer: HeadWeights(q * (layer + 1), k, q, q.mT, none, none, none, 0.5), [2, 5])


EXAMPLES = {
    "spectrum.spectrum_by_head": lambda examples: (spectra_of(examples.waves),),
    "spectrum.spectrum_of_layer": lambda examples: (spectra_of(examples.waves), 5),
    "spectrum.spectrum_regimes": lambda examples: (spectra_of(examples.waves),),
}
