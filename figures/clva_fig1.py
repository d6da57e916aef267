"""CLVA Fig. 1: how much every head of every layer attends to the image while the question is processed (Φ).

Mean over test scenes with a question about an object in the image; the number is the attention to the system prompt and the text.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.plot.heatmap import heatmap


def measure_mass(setting: Setting) -> pd.DataFrame:
    """Measure Φ of every head."""
    import interp
    from interp.analysis.anchors import VisualAnchors
    from interp.world import scenes

    model = setting.loaded
    asked = [
        (s, next(q for q in s.questions if q.kind == "existence" and q.answer == "Yes"))
        for s in scenes("test", setting.n, setting.seed)
    ]
    found = interp.measure(model, [model.prepare(s.image, q.text) for s, q in asked], VisualAnchors())
    mass = found.mean("mass")
    return pd.DataFrame(
        [(i, h, float(v)) for i, row in enumerate(mass) for h, v in enumerate(row)], columns=["layer", "head", "mass"]
    )


def draw(mass: pd.DataFrame) -> Figure:
    """Draw the map with the rest of the attention written into it."""
    values = torch.tensor(mass.pivot_table(index="layer", columns="head", values="mass").to_numpy())
    figure, ax = plt.subplots(figsize=(7.0, 4.6), layout="constrained")
    heatmap(values, "attention to the image, Φ", ax=ax)
    middle = float(values.max()) / 2
    if values.numel() <= 256:
        for (layer, head), value in zip(
            torch.cartesian_prod(*map(torch.arange, values.shape)), values.flatten(), strict=True
        ):
            colour = "black" if float(value) > middle else "white"
            ax.text(
                int(head), int(layer), f"{1 - float(value):.2f}", ha="center", va="center", color=colour, fontsize=7.5
            )
        ax.set_title("written: attention to text and system prompt")
    return figure


if __name__ == "__main__":
    recipe("clva_fig1", {"mass": Part(pd.DataFrame, measure_mass)}, draw, about=__doc__)
