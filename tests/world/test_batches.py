"""Rows of several conversations are exactly as many single prompts; labels are those of the pixels."""

import numpy as np
import pytest
import torch

from interp.world import CLASSES, scenes
from interp.world.batches import IGNORED, RowMaker, patch_labels, scene_labels, text_batch
from interp.world.drawing import owners
from interp.world.objects import VISIBLE
from interp.world.processor import build_tokenizer
from interp.world.training.config import NetworkConfig, SinkConfig, TextConfig
from interp.world.training.multimodal import Speaker, additive
from interp.world.training.network import build_network

SMALL = NetworkConfig(width=32, layers=2, heads=2, inner=48, vision_layers=1, vision_heads=2)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def make(tokenizer, settings, n, seed=0):
    maker = RowMaker(tokenizer, settings)
    return maker, maker.rows([np.random.default_rng((seed, i)) for i in range(n)], scenes("train", n))


def test_rows_are_decided_by_their_generators(tokenizer):
    for first, second in zip(*(vars(make(tokenizer, TextConfig(), 4)[1]).values() for _ in range(2)), strict=True):
        torch.testing.assert_close(first, second)


def test_targets_are_the_answers(tokenizer):
    maker, rows = make(tokenizer, TextConfig(text_rows=0.0, other_systems=0.0, chained=0.0), 6)
    for ids, targets in zip(rows.ids, rows.targets, strict=True):
        where = (targets != IGNORED).nonzero().flatten()
        assert len(where) > 10
        assert where.min() >= maker.prefix
        torch.testing.assert_close(ids[where + 1], targets[where])
        assert (targets == tokenizer.eos_token_id).sum() >= 3


def test_a_conversation_in_a_row_is_a_prompt_of_its_own(tokenizer):
    model = build_network(tokenizer, SMALL, SinkConfig(planted=False)).eval()
    maker, rows = make(tokenizer, TextConfig(text_rows=0.0, other_systems=0.5, chained=0.3), 6)
    speaker = Speaker(model, maker)
    pixels = torch.randn(6, 3, 64, 64)
    with torch.no_grad():
        together = speaker(pixels, rows.ids, rows.positions, additive(rows))
    compared = 0
    for sample in range(6):
        ends = (rows.targets[sample] == tokenizer.eos_token_id).nonzero().flatten().tolist()
        for end in ends:
            keep = rows.allowed[sample, end].nonzero().flatten()
            with torch.no_grad():
                alone = model(input_ids=rows.ids[sample, keep][None], pixel_values=pixels[sample : sample + 1]).logits
            torch.testing.assert_close(together[sample, end - maker.prefix + 1], alone[0, -1], atol=2e-4, rtol=1e-3)
            compared += 1
    assert compared > 20


def test_text_rows_begin_with_the_start_and_hold_no_image(tokenizer):
    ids = text_batch(0, TextConfig(), tokenizer, batch=16, seed=0)
    assert ids.shape == (16, TextConfig().row + 1)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert not torch.isin(ids, torch.tensor(tokenizer.convert_tokens_to_ids(["<image>", "<unk>"]))).any()
    assert not torch.equal(ids, text_batch(1, TextConfig(), tokenizer, batch=16, seed=0))


def test_labels_are_what_owns_the_patch():
    for scene in scenes("val", 12):
        grid, labels = owners(scene.objects), patch_labels(scene).reshape(8, 8, 2)
        for row, col in np.ndindex(8, 8):
            patch = grid[8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
            label = labels[row, col, 0]
            if label:
                index = np.bincount(patch[patch >= 0]).argmax()
                assert CLASSES[label - 1] == scene.objects[index].name
            else:
                assert np.bincount(patch[patch >= 0], minlength=1).max() < 8
        named = {name for name, flag in zip(CLASSES, scene_labels(scene), strict=False) if flag}
        assert named == {thing.name for thing in scene.objects if thing.visible >= VISIBLE}
