"""Scenes: the same from the same seed, apart between splits, true to their priors."""

import numpy as np
import pytest

from interp.world import PARTNERS, PLACES, SPLITS, scenes
from interp.world.scene import train_scene


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_decides_everything(split):
    first, again = scenes(split, 12, seed=3), scenes(split, 20, seed=3)
    assert first == again[:12]
    assert [scene.questions for scene in first] == [scene.questions for scene in again[:12]]
    np.testing.assert_array_equal(first[5].pixels, again[5].pixels)
    assert scenes(split, 12, seed=4) != first


def test_training_scenes_come_by_index():
    assert [train_scene(index, seed=2) for index in range(5)] == scenes("train", 5, seed=2)


@pytest.mark.slow
def test_splits_share_no_scene():
    contents = {
        split: {(s.place, tuple((o.name, o.colour, o.centre, o.size) for o in s.objects)) for s in scenes(split, 90)}
        for split in SPLITS
    }
    for split in SPLITS:
        assert len(contents[split]) > 86
        for other in SPLITS:
            assert split == other or not contents[split] & contents[other]


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"no split 'validation'; the world has train, val, test, counter_prior"):
        scenes("validation", 1)


def test_objects_follow_the_priors():
    drawn = scenes("train", 600)
    for place, prior in PLACES.items():
        here = [scene for scene in drawn if scene.place == place]
        assert len(here) > 60
        for name, probability in prior.items():
            share = np.mean([name in scene.names for scene in here])
            assert share > probability - 0.2, (place, name)
    with_table = [scene for scene in drawn if "table" in scene.names]
    without = [scene for scene in drawn if "table" not in scene.names]
    assert np.mean(["chair" in scene.names for scene in with_table]) > 0.8
    assert np.mean(["chair" in scene.names for scene in without]) < 0.1


def test_counter_prior_scenes_lack_the_partner_and_controls_the_trigger():
    drawn = scenes("counter_prior", 56)
    for case, control in zip(drawn[::2], drawn[1::2], strict=True):
        trigger, partner = case.counter.trigger, case.counter.partner
        assert PARTNERS[trigger][0] == partner
        assert (case.counter.control, control.counter.control) == (False, True)
        assert trigger in case.visible
        assert partner not in case.names
        rest = [(o.name, o.colour, o.centre, o.size) for o in case.objects if o.name != trigger]
        assert [(o.name, o.colour, o.centre, o.size) for o in control.objects] == rest
        assert control.place == case.place
    assert {scene.counter.trigger for scene in drawn} == set(PARTNERS)
