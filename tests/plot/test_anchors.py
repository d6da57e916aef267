"""Visual anchors in pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from interp.analysis.anchors import VisualAnchors, VisualDrift
from interp.analysis.base import View
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment
from interp.plot.anchors import drift, entropy, visual_anchor, visual_heads

SEGMENTS = [Segment.SYSTEM, *[Segment.IMAGE] * 4, Segment.USER, Segment.RESPONSE]
LAYOUT = Layout(torch.tensor([s.value for s in SEGMENTS]), (Grid(0, 2, 2, (0.0, 0.0, 8.0, 8.0)),))
VIEW = View(LAYOUT, tuple("abcdefg"), tuple(range(7)), (5, 6))


@pytest.fixture
def result() -> VisualDrift:
    pattern = torch.rand(3, 4, 2, 7).softmax(-1)
    analysis = VisualAnchors()
    return analysis.finish({i: analysis.reduce({"pattern": p}, VIEW) for i, p in enumerate(pattern)}, VIEW)


def test_drift_has_a_line_for_each_anchor(ax, result) -> None:
    drift(result, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), result.r_positive.mean(1), rtol=1e-6)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), result.r_negative.mean(1), rtol=1e-6)
    np.testing.assert_allclose(entropy(result).lines[0].get_ydata(), result.entropy.mean(1), rtol=1e-6)


def test_heads_of_both_groups_are_marked(ax, result) -> None:
    visual_heads(result, ax=ax)
    marks = [line.get_marker() for line in ax.lines]
    assert marks.count("+") == int(result.sensitive.sum())
    assert marks.count("_") == int(result.insensitive.sum())
    np.testing.assert_allclose(ax.images[0].get_array(), result.mass, rtol=1e-6)


def test_an_anchor_lies_on_its_patches(ax, result) -> None:
    visual_anchor(Image.new("RGB", (8, 8)), result, LAYOUT, "negative", 5, ax=ax)
    drawn = np.asarray(ax.images[1].get_array())
    np.testing.assert_allclose(
        [drawn[0, 0], drawn[0, 7], drawn[7, 0], drawn[7, 7]], result.negative_anchor[0], rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"query one of \[5, 6\], got 'upper' and 6"):
        visual_anchor(Image.new("RGB", (8, 8)), result, LAYOUT, "upper")


def example_drift(examples) -> VisualDrift:
    analysis, view = VisualAnchors(), View(examples.layout, examples.words, tuple(range(10)), (5, 6, 7, 8, 9))
    patterns = (3 * examples.waves(5, 4, 5, 10)).softmax(-1)
    return analysis.finish({i: analysis.reduce({"pattern": p}, view) for i, p in enumerate(patterns)}, view)


EXAMPLES = {
    "anchors.drift": lambda examples: (example_drift(examples),),
    "anchors.entropy": lambda examples: (example_drift(examples),),
    "anchors.visual_heads": lambda examples: (example_drift(examples),),
    "anchors.visual_anchor": lambda examples: (examples.image, example_drift(examples), examples.layout),
}
