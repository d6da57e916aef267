"""CLVA Fig. 2: attention on the image by layer, its entropy, and its drift from both visual anchors.

Above: the map of the row that emits the answer to a question about an object in the image, averaged over heads. Below: mean entropy
and mean correlation with the positive and the negative visual anchor; bands are 95 % bootstrap intervals over test scenes.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from scene_maps import ask, on_scene

from interp.analysis.anchors import VisualDrift
from interp.plot.style import BLUE, GREEN, RED, whole_ticks


def measure_one(setting: Setting) -> VisualDrift:
    """Measure the first scene."""
    import interp
    from interp.analysis.anchors import VisualAnchors

    return interp.measure(setting.loaded, ask(setting, 1)[0], VisualAnchors())


def measure_drift(setting: Setting) -> pd.DataFrame:
    """Measure entropy and correlations over scenes."""
    import interp
    from interp.analysis.anchors import VisualAnchors

    found = interp.measure(setting.loaded, ask(setting, setting.n), VisualAnchors())
    names = ("entropy", "r_positive", "r_negative")
    rows = [
        (name, layer, i, float(values[layer].nanmean()))
        for i, result in enumerate(found)
        for name in names
        for layer, values in [(k, getattr(result, name)) for k in range(len(result.layers))]
    ]
    return pd.DataFrame(rows, columns=["name", "layer", "sample", "value"])


def draw(one: VisualDrift, drift: pd.DataFrame) -> Figure:
    """Draw the maps above, the curves below."""
    import numpy as np

    figure = plt.figure(figsize=(13.0, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    count = len(one.layers)
    for index, ax in enumerate(above.subplots(1, count, squeeze=False)[0]):
        on_scene(one, one.maps[index, -1], ax)
        name = " (positive)" if one.layers[index] == one.middle else ""
        name = " (negative)" if one.layers[index] == one.first else name
        ax.set_title(f"layer {one.layers[index]}{name}", fontsize=8.5)
    left, right = below.subplots(1, 2)
    for name, ax, colour, label, line in (
        ("entropy", left, BLUE, "entropy", "-"),
        ("r_positive", right, GREEN, f"with the positive visual anchor (layer {one.middle})", "-"),
        ("r_negative", right, RED, f"with the negative visual anchor (layer {one.first})", "--"),
    ):
        table = drift[drift["name"] == name].pivot_table(index="sample", columns="layer", values="value").to_numpy()
        drawn = np.random.default_rng(0).integers(0, len(table), (1000, len(table)))
        low, high = np.quantile(table[drawn].mean(1), [0.025, 0.975], axis=0)
        ax.fill_between(range(table.shape[1]), low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(range(table.shape[1]), table.mean(0), line, color=colour, marker="o", markersize=4, label=label)
    left.set(xlabel="layer", ylabel="entropy over image tokens (nats)", ylim=(0, None))
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="layer", ylabel="Pearson's r", ylim=(-1.05, 1.05))
    right.legend()
    whole_ticks(left)
    whole_ticks(right)
    return figure


if __name__ == "__main__":
    parts = {"one": Part(VisualDrift, measure_one), "drift": Part(pd.DataFrame, measure_drift)}
    recipe("clva_fig2", parts, draw, about=__doc__)
