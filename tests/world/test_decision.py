"""The probability that a missing partner is named next: exact, and unchanged when nothing is hidden."""

import numpy as np
import pytest
import torch

from interp.world import scenes
from interp.world.decision import (
    HIDDEN,
    find_decision,
    measure_decision,
    option_probability,
    summarise,
    trigger_patches,
)
from interp.world.processor import IMAGE_TOKENS, build_processor, build_tokenizer
from interp.world.text import RANKED, mentions
from interp.world.training.config import NetworkConfig, SinkConfig
from interp.world.training.network import build_network


@pytest.fixture(scope="module")
def about():
    return scenes("counter_prior", 28, version=2)


@pytest.fixture(scope="module")
def model():
    small = NetworkConfig(width=32, layers=2, heads=2, inner=48, vision_layers=1, vision_heads=2)
    return build_network(build_tokenizer(), small, SinkConfig(planted=False)).eval()


def test_the_prefix_ends_where_the_partner_would_come(about):
    for scene in about:
        found = find_decision(scene)
        assert scene.counter.partner not in scene.names
        named = [mention.name for mention in mentions(found.prefix)]
        assert scene.counter.partner not in named
        assert all(RANKED.index(name) < RANKED.index(scene.counter.partner) for name in named)
        assert all(scene.counter.partner in option for option in found.options)
        assert (found.word is not None) == (not scene.counter.control)
        if found.word:
            assert found.prefix[slice(*found.word)] == scene.counter.trigger or scene.counter.trigger in named


def test_trigger_patches_are_none_without_the_trigger(about):
    for scene in about:
        assert trigger_patches(scene).any() == (not scene.counter.control)


def test_probabilities_are_those_of_all_options(about, model):
    found = measure_decision(model, build_processor(), about[:4])
    assert set(found) == set(HIDDEN)
    for values in found.values():
        assert ((values >= 0) & (values <= 1)).all()
    control = np.array([scene.counter.control for scene in about[:4]])
    np.testing.assert_allclose(found["trigger word"][control], found["nothing"][control])
    np.testing.assert_allclose(found["trigger patches"][control], found["nothing"][control])
    assert not np.allclose(found["image"], found["nothing"], rtol=1e-6, atol=0)


def test_changes_are_paired_and_over_scenes_with_the_trigger(about):
    values = np.tile([0.2, 0.1], len(about) // 2)
    more = values + np.tile([0.1, 0.5], len(about) // 2)
    nothing, image = summarise({"nothing": values, "image": more}, about)
    assert (nothing.change, nothing.error) == (0, 0)
    assert image.change == pytest.approx(0.1)
    assert (image.trigger, image.control) == (pytest.approx(0.3), pytest.approx(0.6))
    assert image.interval == pytest.approx((0.1, 0.1))
    assert image.n == len(about) // 2


def test_the_options_of_one_token_sum_to_one(model):
    size = model.config.text_config.vocab_size
    prompt = torch.tensor([1, *[model.config.image_token_index] * IMAGE_TOKENS, 7, 8])
    pixels = torch.zeros(1, 3, 64, 64)
    assert option_probability(model, pixels, prompt, [[i] for i in range(size)], []) == pytest.approx(1, abs=1e-4)


def test_scenes_without_a_missing_partner_are_refused():
    with pytest.raises(ValueError, match="counter_prior"):
        find_decision(scenes("val", 1, version=2)[0])
    with pytest.raises(ValueError, match="ranked captions"):
        find_decision(scenes("counter_prior", 1)[0])
