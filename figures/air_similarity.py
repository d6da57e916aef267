"""AIR, attention similarity: the cosine of attention within the reply with the image and without.

Mean over captioned test scenes of the cosine per head; the bars compare the heads that support hallucinations most with those that
support them least.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from sensitive import sensitive_heads

from interp.analysis.similarity import HeadSimilarity
from interp.plot.similarity import similarity_map as draw_similarity
from interp.plot.style import BLUE, ORANGE


def measure_similarity(setting: Setting) -> HeadSimilarity:
    """Measure the mean cosine of every head."""
    from captions import captioned
    from tqdm import tqdm

    from interp.experiments.similarity import similarity

    model = setting.loaded
    found = [similarity(model, c.prompt) for c in tqdm(captioned(model, setting.n, setting.seed), desc="similarity")]
    return HeadSimilarity(torch.stack([f.similarity for f in found]).mean(0), found[0].layers, (), found[0].rows)


def draw(similarity: HeadSimilarity) -> Figure:
    """Draw the map and the bars."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained", width_ratios=(1.7, 1))
    draw_similarity(similarity, ax=left)
    groups = {"most sensitive": (sensitive_heads(), ORANGE), "least sensitive": (sensitive_heads(most=False), BLUE)}
    for place, (which, colour) in enumerate(groups.values()):
        values = [float(similarity.similarity[layer, head]) for layer, head in which]
        right.bar(place, sum(values) / len(values), width=0.6, color=colour, alpha=0.5)
        right.plot([place] * len(values), values, "o", color=colour, markersize=4)
    right.set_xticks(range(2), [f"{n}\n({len(h)} heads)" for n, (h, _) in groups.items()])
    right.set(ylabel="cosine of attention", ylim=(0, 1))
    return figure


if __name__ == "__main__":
    recipe("air_similarity", {"similarity": Part(HeadSimilarity, measure_similarity)}, draw, about=__doc__)
