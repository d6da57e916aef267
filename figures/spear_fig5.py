"""SPEAR Fig. 5: the share of attention on the image, on the sink and on all other text, by layer.

Means over captioned test scenes; `--recompute` measures them again.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.analysis.budget import SinkBudget, SinkShares
from interp.plot.budgets import separated


def measure_shares(setting: Setting) -> SinkShares:
    """Measure the mean shares over captioned scenes."""
    import interp
    from interp.methods.spear import with_sinks
    from interp.world import scenes

    model = setting.loaded
    prompts = [model.prepare(s.image, "Describe the image in detail.") for s in scenes("test", setting.n, setting.seed)]
    replies = interp.generate(model, prompts)
    answered = [with_sinks(model, p.with_response(r)) for p, r in zip(prompts, replies, strict=True)]
    found = interp.measure(model, answered, SinkBudget())
    return SinkShares(found.mean("share"), found[0].layers, found[0].sinks)


def draw(shares: SinkShares) -> Figure:
    """Draw the three shares as bands."""
    figure, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
    separated(shares, ax=ax)
    return figure


if __name__ == "__main__":
    recipe("spear_fig5", {"shares": Part(SinkShares, measure_shares)}, draw, about=__doc__)
