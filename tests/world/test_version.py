"""The versions of the world: the first unchanged, the second hard to see and full of expectations."""

import zlib

import numpy as np
import pytest

from interp.world import PARTNERS, scenes
from interp.world.drawing import blurred, detectability, render
from interp.world.objects import CLASSES, VISIBLE, Object, palette
from interp.world.text import RANKED, groups, mentions
from interp.world.ties import HEIGHTS, USUAL_COLOUR, colour_prior
from interp.world.version import WORLDS, find_world

PIXELS, TEXTS = 1184565929, 3031183274
"""Checksums of the first version, as it was when its model was trained."""


@pytest.fixture(scope="module")
def second():
    return scenes("train", 300, version=2)


def test_the_first_world_stays_what_it_was():
    drawn = [*scenes("train", 20), *scenes("counter_prior", 8)]
    pixels = b"".join(scene.pixels.tobytes() for scene in drawn)
    texts = repr([(s.captions, s.questions, s.objects, s.counter) for s in drawn]).encode()
    assert (zlib.crc32(pixels), zlib.crc32(texts)) == (PIXELS, TEXTS)


def test_versions_share_no_scene(second):
    assert not {scene.signature for scene in scenes("train", 300)} & {scene.signature for scene in second}
    assert all(scene.version == 2 for scene in second)


def test_the_second_world_is_hard_to_see(second):
    world = WORLDS[2]
    noise = np.array([scene.sigma for scene in second])
    assert noise.min() < 10
    assert noise.max() > 90
    assert {scene.blur for scene in second} == {0, 1, 2, 3}
    things = [thing for scene in second for thing in scene.objects]
    assert min(thing.opacity for thing in things) < 0.2
    assert np.mean([thing.opacity == 1 for thing in things]) == pytest.approx(world.solid, abs=0.05)
    assert max(len(scene.objects) for scene in second) == world.objects


def test_the_second_world_has_priors(second):
    for trigger, (partner, probability) in PARTNERS.items():
        beside = [partner in scene.names for scene in second if trigger in scene.names]
        assert np.mean(beside) >= probability - 0.15, trigger
    things = [thing for scene in second for thing in scene.objects]
    usual = np.mean([thing.colour == USUAL_COLOUR[thing.name] for thing in things])
    assert usual == pytest.approx(0.6, abs=0.06)
    tables = [thing.centre[1] for thing in things if thing.name == "table"]
    clocks = [thing.centre[1] for thing in things if thing.name == "clock"]
    assert np.mean(tables) > np.mean(clocks) + 12


def test_ties_are_probabilities():
    for name in CLASSES:
        assert USUAL_COLOUR[name] in palette(name)
        assert sum(colour_prior(name)) == pytest.approx(1)
        assert sum(HEIGHTS[name]) == pytest.approx(1)


def test_evidence_falls_with_noise_and_opacity():
    def measured(thing, noise, blur=0):
        return detectability("park", [thing], (1,), noise=noise, blur=blur)[0]

    solid, faint = Object("table", "red", (32, 32), 24), Object("table", "red", (32, 32), 24, opacity=0.3)
    assert measured(solid, 10.0) > measured(solid, 50.0) > measured(faint, 50.0) > 0
    assert measured(faint, 50.0) == pytest.approx(0.3 * measured(solid, 50.0), rel=1e-4)
    assert measured(solid, 50.0) > measured(solid, 50.0, blur=3)


def test_a_covered_object_gives_no_evidence():
    cup, sofa = Object("cup", "red", (32, 32), 6), Object("sofa", "blue", (32, 32), 24)
    hidden, cover = detectability("lounge", [cup, sofa], (1,), noise=20.0, blur=0)
    assert hidden < 1 < cover


def test_noise_is_what_the_scene_says():
    clean, noisy = (render("park", [], (1,), noise=noise).astype(float) for noise in (0.0, 20.0))
    assert (noisy - clean).std() == pytest.approx(20, abs=2)


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    canvas = np.random.default_rng(0).normal(100, 20, (64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(blurred(canvas, 0), canvas)
    assert blurred(canvas, 2).mean() == pytest.approx(canvas.mean(), abs=0.5)
    assert blurred(canvas, 2).std() < 0.5 * canvas.std()


def test_a_clear_scene_has_the_same_objects(second):
    for scene in second[:20]:
        clear = scene.clear
        assert clear.sigma <= 6
        assert clear.blur == 0
        assert [thing.opacity for thing in clear.objects] == [1.0] * len(scene.objects)
        assert clear.captions == scene.captions
        assert min(clear.evidence) >= 0


def test_captions_name_every_class_once_in_the_ranked_order(second):
    for scene in second:
        named = [mention.name for mention in mentions(scene.captions["detailed"])]
        assert named == sorted(named, key=RANKED.index)
        assert set(named) == {thing.name for thing in scene.objects if thing.visible >= VISIBLE}
        assert len(named) == len(set(named)) == len(groups(scene.objects))


def test_triggers_come_before_their_partners():
    assert sorted(RANKED) == sorted(CLASSES)
    for trigger, (partner, _) in PARTNERS.items():
        assert RANKED.index(trigger) < RANKED.index(partner)


def test_order_is_asked_where_it_can_be_seen(second):
    asked = [(scene, q) for scene in second for q in scene.questions if q.kind == "order"]
    assert asked
    for scene, _ in asked:
        columns = sorted(thing.centre[0] for thing in scene.objects if thing.visible >= VISIBLE)
        assert len(columns) <= WORLDS[2].order_most
        assert np.diff(columns).min() >= WORLDS[2].order_gap


def test_another_version_is_refused():
    with pytest.raises(ValueError, match="no version 7 of the world; there are 1, 2"):
        find_world(7)
    with pytest.raises(ValueError, match="no version 0 of the world"):
        scenes("val", 1, version=0)
