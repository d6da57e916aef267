"""The eigenspectrum of every head: ξ by layer and head, the eigenvalues of a layer, and the regimes."""

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from interp.analysis.spectrum import REGIMES, HeadSpectra
from interp.plot.signed import signed
from interp.plot.style import CYCLE, GREY, axes_or_new, style


def spectrum_by_head(result: HeadSpectra, ax: Axes | None = None) -> Axes:
    """Draw ξ = tr W / √tr (SΣ)² of every head, which measures how one-sided its eigenvalues are."""
    return signed(result.xi, "ξ = tr W / √tr (SΣ)²", layers=result.layers, ax=ax)


def spectrum_of_layer(result: HeadSpectra, layer: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of W = W_QK Σ of one layer's heads in the complex plane, without the structural zeros.

    Args:
        result: the spectra.
        layer: the layer; by default the middle one of those measured.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: the layer was not measured.
    """
    layer = result.layers[len(result.layers) // 2] if layer is None else layer
    if layer not in result.layers:
        raise ValueError(f"layer {layer} was not measured; there are {list(result.layers)}")
    values = result.eigenvalues[result.layers.index(layer)]
    with style():
        ax = axes_or_new(ax, (4.4, 3.6))
        ax.axhline(0, color=GREY, linewidth=0.6)
        ax.axvline(0, color=GREY, linewidth=0.6)
        for head, own in enumerate(values):
            real, imaginary = own.real.tolist(), own.imag.tolist()
            ax.scatter(real, imaginary, s=14, color=CYCLE[head % len(CYCLE)], alpha=0.75, label=f"head {head}")
        ax.set(xlabel="real part", ylabel="imaginary part", title=f"layer {layer}")
        if len(values) <= len(CYCLE):
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
    return ax


def spectrum_regimes(result: HeadSpectra, ax: Axes | None = None) -> Axes:
    """Draw every head at its ξ and η, coloured by its regime; on the dashed curves |ξ η| = 1."""
    with style():
        ax = axes_or_new(ax, (4.8, 3.6))
        for index, name in enumerate(REGIMES):
            here = result.regime == index
            ax.scatter(
                result.xi[here].tolist(), result.eta[here].tolist(), s=16, color=CYCLE[index], alpha=0.8, label=name
            )
        reach = max(float(result.xi.abs().max()), 1e-3) * 1.1
        side = torch.linspace(reach / 100, reach, 100)
        for sign in (-1, 1):
            ax.plot((sign * side).tolist(), (1 / side).tolist(), color=GREY, linewidth=1.0, linestyle="--")
        low = float(result.eta.clamp_min(1e-6).min())
        ax.set(yscale="log", ylim=(low / 1.5, max(float(result.eta.max()), low) * 1.5), xlim=(-reach, reach))
        ax.set(xlabel="ξ (sidedness of the eigenvalues)", ylabel="η (their scale)")
        dashed = Line2D([], [], color=GREY, linewidth=1.0, linestyle="--", label="|ξ η| = 1")
        ax.legend(handles=[*ax.get_legend_handles_labels()[0], dashed], loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
