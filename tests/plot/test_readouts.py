"""Readouts in pictures."""

import numpy as np
import torch

from interp.analysis.readouts import LensTable, LogitParts
from interp.plot.readouts import head_parts, layer_parts, lens


def test_the_lens_shows_positions_that_something_follows(ax) -> None:
    following = torch.tensor([[0.5, 0.25, torch.nan], [1.0, 0.125, torch.nan]]).log()
    nothing = torch.zeros(2, 3, 1)
    rank = torch.zeros(2, 3).long()
    result = LensTable(nothing.long(), nothing, following, rank, nothing[..., 0], (1, 2), (7, 8, 9), ("a", "\n", "c"))
    lens(result, ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.5, 0.25], [1.0, 0.125]], rtol=1e-6)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "\\n"]
    assert lens(result, most=1).images[0].get_array().shape == (2, 1)


def test_parts_are_means_over_tokens(ax) -> None:
    head = torch.tensor([[[1.0, 3.0], [0.0, 2.0]]])
    one = torch.tensor([[2.0, 4.0]])
    result = LogitParts(head, one, one * 0, one[0], one[0], one[0], (5,), (1, 2), (8, 9))
    np.testing.assert_allclose(head_parts(result, ax=ax).images[0].get_array(), [[2.0, 1.0]])
    lines = {line.get_label(): line.get_ydata()[0] for line in layer_parts(result).lines[:3]}
    assert lines == {"heads": 3.0, "MLP": 3.0, "rest": 0.0}


def lens_table(examples) -> LensTable:
    top, rank = torch.zeros(3, 10, 1), torch.zeros(3, 10).long()
    following, entropy = (examples.waves(3, 10) + 0.01).log(), examples.waves(3, 10)
    return LensTable(top.long(), top, following, rank, entropy, (0, 1, 2), tuple(range(10)), examples.words)


def logit_parts(waves) -> LogitParts:
    arrays = waves(3, 4, 2) - 0.5, waves(3, 2), waves(3, 2) / 4, waves(2), waves(2), waves(2)
    return LogitParts(*arrays, (0, 1, 2), (5, 6), (1, 2))


EXAMPLES = {
    "readouts.lens": lambda examples: (lens_table(examples),),
    "readouts.head_parts": lambda examples: (logit_parts(examples.waves),),
    "readouts.layer_parts": lambda examples: (logit_parts(examples.waves),),
}
