"""LVLMs-Saliency Fig. 8: saliency of hallucinated and correct mentions, and P(hallucinated | saliency).

One number per mention: the saliency of the last token before the one that predicts it, mean over layers; captions of scenes that
invite a hallucination.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.analysis.statistics import Comparison, compare_groups
from interp.plot.comparison import distributions, hallucination
from interp.plot.style import BLUE, RED


def measure_mentions(setting: Setting) -> Comparison:
    """Score every mention and compare the two kinds."""
    import torch
    from captions import captioned

    import interp
    from interp.analysis.saliency import ResponseSaliency

    model = setting.loaded
    said = captioned(model, setting.n, setting.seed, split="counter_prior")
    found = interp.measure(model, [c.prompt for c in said], ResponseSaliency())
    picked = [c.hallucinated | c.correct for c in said]
    scores = [r.score("previous")[m] for r, m in zip(found, picked, strict=True)]
    return compare_groups(torch.cat(scores), torch.cat([c.hallucinated[m] for c, m in zip(said, picked, strict=True)]))


def draw(mentions: Comparison) -> Figure:
    """Draw means with standard deviations, both distributions, and the share of hallucinations by saliency."""
    figure, axes = plt.subplots(1, 3, figsize=(13.0, 3.8), layout="constrained", width_ratios=(0.7, 1, 1))
    groups = {"correct": (~mentions.hallucinated, BLUE), "hallucinated": (mentions.hallucinated, RED)}
    for place, (mask, colour) in enumerate(groups.values()):
        values = mentions.score[mask]
        axes[0].bar(place, float(values.mean()), 0.6, color=colour)
        axes[0].errorbar(place, float(values.mean()), yerr=float(values.std()), color="black", capsize=4)
    axes[0].set_xticks(range(2), [f"{n}\n(n = {int(m.sum())})" for n, (m, _) in groups.items()])
    axes[0].set(ylabel="saliency of the previous token (± SD)")
    axes[0].set_title(f"d = {mentions.cohens_d:.2f}, p = {mentions.p_value:.2g}")
    distributions(mentions, "saliency of the previous token", ax=axes[1])
    axes[1].set_ylabel("share of mentions")
    hallucination(mentions, "saliency of the previous token", ax=axes[2])
    return figure


if __name__ == "__main__":
    recipe("saliency_fig8", {"mentions": Part(Comparison, measure_mentions)}, draw, about=__doc__, n=100)
