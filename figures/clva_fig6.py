"""CLVA Figs. 6 and 7: the map of attention on the image without and with re-anchoring, layer by layer.

The row that emits the answer to a question of existence, averaged over heads; the maps of a column share one colour scale.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from scene_maps import ask, on_scene

from interp.analysis.anchors import VisualDrift


def measure_plain(setting: Setting) -> VisualDrift:
    """Measure the question at baseline."""
    import interp
    from interp.analysis.anchors import VisualAnchors

    return interp.measure(setting.loaded, ask(setting, 1)[0], VisualAnchors())


def measure_anchored(setting: Setting) -> VisualDrift:
    """Measure the question under CLVA."""
    import interp
    from interp.analysis.anchors import VisualAnchors
    from interp.methods.clva import Clva

    return interp.measure(setting.loaded, ask(setting, 1)[0], VisualAnchors(), interventions=[Clva()])


def draw(plain: VisualDrift, anchored: VisualDrift) -> Figure:
    """Draw two rows of maps from the layer of the positive visual anchor on."""
    shown = [i for i, layer in enumerate(plain.layers) if layer >= plain.middle]
    figure, axes = plt.subplots(2, len(shown), figsize=(2.1 * len(shown) + 0.6, 4.8), layout="constrained")
    for column, index in enumerate(shown):
        top = max(float(plain.maps[index, -1].max()), float(anchored.maps[index, -1].max()))
        for row, result in enumerate((plain, anchored)):
            ax = axes[row][column]
            on_scene(result, result.maps[index, -1], ax)
            ax.images[-1].set_clim(0, top)
            ax.set_title(f"layer {plain.layers[index]}  r = {float(result.r_positive[index, -1]):.2f}", fontsize=9)
    axes[0][0].set_ylabel("baseline")
    axes[1][0].set_ylabel("CLVA")
    figure.suptitle(f"r: correlation with the positive visual anchor (layer {plain.middle})", fontsize=10)
    return figure


if __name__ == "__main__":
    parts = {"plain": Part(VisualDrift, measure_plain), "anchored": Part(VisualDrift, measure_anchored)}
    recipe("clva_fig6", parts, draw, about=__doc__, n=1)
