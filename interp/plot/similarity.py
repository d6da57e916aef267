"""The similarity of attention within a reply between a run with the image and one without."""

from matplotlib.axes import Axes

from interp.analysis.similarity import HeadSimilarity
from interp.plot.heatmap import heatmap


def similarity_map(result: HeadSimilarity, ax: Axes | None = None) -> Axes:
    """Draw the cosine of every head, from 0 to 1."""
    return heatmap(result.similarity, "cosine of attention", layers=result.layers, limits=(0.0, 1.0), ax=ax)
