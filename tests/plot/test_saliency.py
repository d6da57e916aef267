"""Saliency in pictures."""

import numpy as np
import pytest
import torch

from interp.analysis.saliency import SaliencyMaps, TokenSaliency
from interp.plot.saliency import flow, saliency_map, scores, sources

SEGMENTS = ("SYSTEM", "IMAGE", "USER", "RESPONSE")
MAPS = SaliencyMaps(
    torch.tensor([1.0, 3.0])[:, None, None, None]
    * torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0], [0, 9, 0, 1]]]),
    *((2, 5), ("a", "b", "c", "d"), SEGMENTS, (0, 1, 2, 3), "mean", "none"),
)


@pytest.fixture
def tokens() -> TokenSaliency:
    own = torch.tensor([[0.1, 0.4], [0.3, 0.2]])
    source = torch.tensor([[[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 3.0]]]).expand(2, -1, -1)
    words = ("q", "$x$", "\n")
    return TokenSaliency(torch.rand(2, 1, 2, 3), own, own * 2, own * 0, source, (0, 1), words, (1, 2), "mean", "row_l2")


def test_a_map_is_the_mean_over_layers_or_one_of_them(ax) -> None:
    cells = saliency_map(MAPS, ax=ax).images[0].get_array()
    np.testing.assert_allclose(cells, MAPS.saliency[:, 0].mean(0).sqrt())
    assert len(ax.lines) == 6 + 4  # three segments begin inside, along both axes; four bands name them
    np.testing.assert_allclose(saliency_map(MAPS, 5).images[0].get_array(), MAPS.saliency[1, 0].sqrt())
    with pytest.raises(ValueError, match=r"layer 3 was not measured; there are \[2, 5\]"):
        saliency_map(MAPS, 3)


def test_flow_has_a_line_for_every_pair_that_is_not_zero(ax) -> None:
    flow(MAPS.flow(), ax=ax)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert set(lines) == {"image → response", "response → response", "system → user"}
    np.testing.assert_allclose(lines["image → response"], [9, 27])
    np.testing.assert_allclose(lines["system → user"], [4, 12])


def test_scores_are_bars_named_after_the_tokens(ax, tokens) -> None:
    scores(tokens, ax=ax)
    np.testing.assert_allclose([p.get_height() for p in ax.patches], [0.2, 0.3], rtol=1e-6)
    assert [t.get_text() for t in ax.get_xticklabels()] == [r"\$x\$", "\\n"]
    assert scores(tokens, "previous").get_ylabel() == "saliency of the last token but one"


def test_sources_are_shares(ax, tokens) -> None:
    sources(tokens, ax=ax)
    heights = np.array([p.get_height() for p in ax.patches]).reshape(4, 2)
    np.testing.assert_allclose(heights, [[0, 0.25], [0.5, 0], [0.5, 0], [0, 0.75]])


def maps_of(examples) -> SaliencyMaps:
    maps = examples.waves(2, 1, 10, 10).tril()
    return SaliencyMaps(maps, (2, 5), examples.words, examples.segments, tuple(range(10)), "mean", "none")


def token_saliency(examples) -> TokenSaliency:
    own, source = examples.waves(2, 3), examples.waves(2, 3, 4)
    arrays = examples.waves(2, 1, 3, 10), own, own * 2, own * 0, source
    return TokenSaliency(*arrays, (0, 1), examples.words, (7, 8, 9), "mean", "row_l2")


EXAMPLES = {
    "saliency.saliency_map": lambda examples: (maps_of(examples),),
    "saliency.flow": lambda examples: (maps_of(examples).flow(),),
    "saliency.scores": lambda examples: (token_saliency(examples),),
    "saliency.sources": lambda examples: (token_saliency(examples),),
}
