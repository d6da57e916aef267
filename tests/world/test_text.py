"""Captions say what is there, and mentions are found where they stand."""

import numpy as np
import pytest

from interp.world import CLASSES, Mention, Object, mentions, scenes
from interp.world.objects import PLURALS, missing_partners
from interp.world.text import detailed_caption, groups, invention, listed, region, short_caption, with_article


@pytest.mark.parametrize("kind", ["short", "detailed"])
def test_true_captions_name_what_is_visible_and_nothing_else(kind):
    for scene in scenes("val", 60):
        caption = scene.captions[kind]
        assert {mention.name for mention in mentions(caption)} == scene.visible
        assert scene.place in caption


def test_detailed_captions_give_true_colours_and_positions():
    scene = next(s for s in scenes("val", 50) if len(groups(s.objects)) >= 2)
    single = next(group for group in groups(scene.objects)[:2] if group.count == 1).members[0]
    assert f"{single.colour} {single.name} {region(single)}" in scene.captions["detailed"]


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((5, 5), "at the top left"),
        ((32, 5), "at the top"),
        ((60, 60), "at the bottom right"),
        ((5, 32), "on the left"),
        ((32, 32), "in the center"),
        ((60, 32), "on the right"),
    ],
)
def test_regions(centre, expected):
    assert region(Object("cup", "red", centre, 12)) == expected


def test_captions_of_a_known_scene():
    objects = (
        Object("table", "red", (32, 32), 24),
        Object("apple", "green", (5, 5), 12),
        Object("apple", "blue", (60, 60), 12),
        Object("cup", "white", (5, 60), 12, visible=0.2),
    )
    assert short_caption("office", objects) == "An office with a red table and two apples."
    assert detailed_caption("office", objects, invented="chair") == (
        "The image shows an office. There is a red table in the center and two apples. "
        "In the background, a chair can be seen."
    )
    assert short_caption("park", ()) == "A park."


def test_an_invention_is_a_partner_that_is_expected_and_not_there():
    generator = np.random.default_rng(0)
    for scene in scenes("val", 60):
        assert invention(generator, scene.objects, 0.0) is None
        name = invention(generator, scene.objects, 1.0)
        expected = set(missing_partners(scene.visible)) - scene.names
        assert (name in expected) if expected else name is None


def test_mentions_have_spans_and_know_plurals_and_capitals():
    text = "Two buses, people and a Dog near the carpet; a dog."
    found = mentions(text)
    assert [mention.name for mention in found] == ["bus", "person", "dog", "dog"]
    assert [text[m.start : m.end] for m in found] == ["buses", "people", "Dog", "dog"]
    assert mentions("nothing here") == ()
    assert mentions("a cup") == (Mention("cup", 2, 5),)
    for name in CLASSES:
        assert [m.name for m in mentions(f"{name} {PLURALS[name]}")] == [name, name]


def test_lists_and_articles():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert with_article("apple") == "an apple"
    assert with_article("cup") == "a cup"
