"""TAME, eigenspectra: ξ by layer and head, the eigenvalues of one layer, and the regimes of all heads.

W = W_QK Σ with the covariance of a captioned test scene's stream.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.analysis.spectrum import HeadSpectra, Spectrum
from interp.plot.spectrum import spectrum_by_head, spectrum_of_layer, spectrum_regimes


def measure_spectra(setting: Setting) -> HeadSpectra:
    """Measure the spectra of every head on one captioned scene."""
    from captions import captioned

    import interp

    model = setting.loaded
    return interp.measure(model, captioned(model, setting.n, setting.seed)[-1].prompt, Spectrum())


def draw(spectra: HeadSpectra) -> Figure:
    """Draw the three panels."""
    figure, axes = plt.subplots(1, 3, figsize=(14.5, 3.9), layout="constrained", width_ratios=(1.1, 1, 1))
    figure.get_layout_engine().set(wspace=0.06)
    spectrum_by_head(spectra, ax=axes[0])
    spectrum_of_layer(spectra, ax=axes[1])
    spectrum_regimes(spectra, ax=axes[2])
    return figure


if __name__ == "__main__":
    recipe("tame_spectra", {"spectra": Part(HeadSpectra, measure_spectra)}, draw, about=__doc__, n=1)
