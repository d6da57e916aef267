"""Imbalance in pictures."""

import math

import numpy as np
import torch

from interp.analysis.imbalance import ModalityImbalances, TokenImbalances
from interp.plot.imbalance import imbalanced_tokens, modality, modality_by_step


def test_modality_imbalance_is_a_map_of_log_ratios(ax) -> None:
    text, image = torch.tensor([[[0.2, 0.8], [0.1, 0.1]]]), torch.tensor([[[0.1, 0.0], [0.5, 0.5]]])
    result = ModalityImbalances(text / image, text, image, (4,), (7, 8))
    np.testing.assert_allclose(modality(result, ax=ax).images[0].get_array(), [[1.0, math.log10(0.2)]], rtol=1e-5)
    lines = modality_by_step(result).lines
    np.testing.assert_allclose(lines[0].get_ydata(), [0.15, 0.45], rtol=1e-6)
    np.testing.assert_allclose(lines[1].get_ydata(), [0.3, 0.25], rtol=1e-6)


def test_tokens_are_bars_largest_first(ax) -> None:
    share = torch.tensor([[0.2, 0.5, 0.3, math.nan]])
    even = torch.tensor([[0.25, 0.25, 0.5, math.nan]])
    result = TokenImbalances(share / even, share, even, (share / even)[0], (0,), ("a", "\n", "b", "c"), "output_norm")
    imbalanced_tokens(result, 2, ax=ax)
    np.testing.assert_allclose([p.get_width() for p in ax.patches], [2.0, 0.8], rtol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["\\n  1", "a  0"]
    assert ax.get_xlabel().endswith("(output_norm)")


def modalities(waves) -> ModalityImbalances:
    text, image = waves(3, 4, 6), 0.1 + waves(3, 4, 6, start=1.0)
    return ModalityImbalances(text / image, text, image, (0, 1, 2), (6, 7, 8, 9, 10, 11))


def token_imbalances(examples) -> TokenImbalances:
    waves = examples.waves
    arrays = waves(1, 10) * 2, waves(1, 10), waves(1, 10), waves(10) * 2
    return TokenImbalances(*arrays, (0,), examples.words, "output_norm")


EXAMPLES = {
    "imbalance.modality": lambda examples: (modalities(examples.waves),),
    "imbalance.modality_by_step": lambda examples: (modalities(examples.waves),),
    "imbalance.imbalanced_tokens": lambda examples: (token_imbalances(examples),),
}
