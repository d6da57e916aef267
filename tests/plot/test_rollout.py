"""Rollout and relevance in pictures."""

import numpy as np
import torch
from PIL import Image

from interp.analysis.rollout import Roots
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment
from interp.plot.rollout import roots, roots_on_image

SEGMENTS = [Segment.SYSTEM, Segment.IMAGE, Segment.IMAGE, Segment.USER]
LAYOUT = Layout(torch.tensor([s.value for s in SEGMENTS]), (Grid(0, 1, 2, (0.0, 0.0, 4.0, 4.0)),))
RESULT = Roots(torch.tensor([[[0.1, 0.2, 0.4, 1.0]]]), (0,), (3,), (1, 2), ("a", "b", "\n", "d"), "relevance")


def test_the_tokens_a_row_comes_from_most_stand_first(ax) -> None:
    roots(RESULT, 2, ax=ax)
    np.testing.assert_allclose([p.get_width() for p in ax.patches], [0.4, 0.2], rtol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["\\n  2", "b  1"]


def test_the_image_shows_its_tokens(ax) -> None:
    drawn = np.asarray(roots_on_image(Image.new("RGB", (4, 4)), RESULT, LAYOUT, ax=ax).images[1].get_array())
    np.testing.assert_allclose([drawn[0, 0], drawn[0, 3]], [0.2, 0.4], rtol=1e-6)


def roots_of(examples) -> Roots:
    return Roots(examples.waves(2, 1, 10), (0, 1), (6,), (1, 2, 3, 4), examples.words, "relevance")


EXAMPLES = {
    "rollout.roots": lambda examples: (roots_of(examples),),
    "rollout.roots_on_image": lambda examples: (examples.image, roots_of(examples), examples.layout),
}
