"""Similarity in pictures."""

import numpy as np
import torch

from interp.analysis.similarity import HeadSimilarity
from interp.plot.similarity import similarity_map


def test_cosines_are_a_map_from_zero_to_one(ax) -> None:
    result = HeadSimilarity(torch.tensor([[0.9, 0.95]]), (2,), ("a", "b"), "as_they_are")
    image = similarity_map(result, ax=ax).images[0]
    np.testing.assert_allclose(image.get_array(), [[0.9, 0.95]], rtol=1e-6)
    assert image.get_clim() == (0, 1)


EXAMPLES = {
    "similarity.similarity_map": lambda examples: (
        HeadSimilarity(examples.waves(3, 4), (0, 1, 2), examples.words, "as_they_are"),
    )
}
