"""LVLMs-Saliency Fig. 3: the saliency map of a reply with and without LocoRE.

The same teacher-forced reply twice; rows predict the tokens, columns are the earlier ones. Red: absent objects; blue:
objects in the image.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from replies import ReplyMaps, board, measure_reply, with_invention


def measure_plain(setting: Setting) -> ReplyMaps:
    """Measure the baseline."""
    from captions import captioned

    model = setting.loaded
    return measure_reply(model, with_invention(captioned(model, setting.n, setting.seed, split="counter_prior")))


def measure_locore(setting: Setting) -> ReplyMaps:
    """Measure the same caption under LocoRE."""
    from captions import captioned

    from interp.methods.locore import Locore

    model = setting.loaded
    said = with_invention(captioned(model, setting.n, setting.seed, split="counter_prior"))
    return measure_reply(model, said, Locore())


def draw(plain: ReplyMaps, locore: ReplyMaps) -> Figure:
    """Draw both maps and their difference along the reply."""
    figure, axes = plt.subplots(1, 2, figsize=(13.0, 5.8), layout="constrained")
    limit = max(float(plain.saliency.max()), float(locore.saliency.max()))
    for ax, maps, name in zip(axes, (plain, locore), ("without LocoRE", "with LocoRE"), strict=True):
        board(maps, "saliency", "saliency", ax, limit=limit)
        change = float((locore.saliency.sum(-1) - plain.saliency.sum(-1)).mean())
        ax.set_title(name if maps is plain else f"{name} (mean change of a row's sum {change:+.3f})")
    return figure


if __name__ == "__main__":
    parts = {"plain": Part(ReplyMaps, measure_plain), "locore": Part(ReplyMaps, measure_locore)}
    recipe("saliency_fig3", parts, draw, about=__doc__, n=24)
