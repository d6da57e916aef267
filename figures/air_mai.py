"""AIR, modality imbalance: attention to text over attention to the image (MAI), by head and along the reply.

Left: log10 of MAI of every head, masses averaged over the steps of captions. Right: MAI of the heads that support hallucinations most and
least, step by step; medians and quartiles over captions of scenes that invite a hallucination.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from sensitive import sensitive_heads

from interp.plot.signed import signed
from interp.plot.style import BLUE, GREY, ORANGE, whole_ticks

STEPS = 24


def measure_masses(setting: Setting) -> pd.DataFrame:
    """Measure the attention to text and to the image of every head and step."""
    from captions import captioned

    import interp
    from interp.analysis.imbalance import ModalityImbalance

    model = setting.loaded
    said = captioned(model, setting.n, setting.seed, split="counter_prior")
    found = interp.measure(model, [c.prompt for c in said], ModalityImbalance())
    tables = [
        r.frame("text").rename(columns={"value": "text"}).assign(image=r.frame("image")["value"], sample=i)
        for i, r in enumerate(found)
    ]
    every = pd.concat(tables)
    return every[every["step"] < STEPS].groupby(["layer", "head", "step"])[["text", "image"]].mean().reset_index()


def draw(masses: pd.DataFrame) -> Figure:
    """Draw both panels."""
    import numpy as np
    import torch

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    by_head = masses.groupby(["layer", "head"])[["text", "image"]].mean()
    ratio = np.log10(by_head["text"] / by_head["image"]).unstack()
    signed(torch.tensor(ratio.to_numpy()), "log10 (text / image)", ax=left)
    for which, colour, line, name in (
        (sensitive_heads(), ORANGE, "-", "most sensitive heads"),
        (sensitive_heads(most=False), BLUE, "--", "least sensitive heads"),
    ):
        mine = masses[[p in which for p in zip(masses["layer"], masses["head"], strict=True)]]
        mai = (mine["text"] / mine["image"]).groupby(mine["step"])
        low, middle, high = (mai.quantile(q) for q in (0.25, 0.5, 0.75))
        right.fill_between(middle.index, low, high, color=colour, alpha=0.2, linewidth=0)
        right.plot(middle.index, middle, line, color=colour, label=f"{name} ({len(which)})")
    right.axhline(1, color=GREY, linewidth=0.8)
    right.set(xlabel="step of the reply", ylabel="MAI (text / image)", yscale="log")
    whole_ticks(right)
    right.legend()
    return figure


if __name__ == "__main__":
    recipe("air_mai", {"masses": Part(pd.DataFrame, measure_masses)}, draw, about=__doc__)
