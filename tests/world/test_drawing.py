"""Ground truth against the drawn pixels."""

from dataclasses import replace

import numpy as np
import pytest

from interp.world import CLASSES, Object, scenes
from interp.world.drawing import owners, place_objects, render


def repainted(place, objects, index):
    """Which pixels change when one object gets another colour."""
    thing = objects[index]
    other = "white" if thing.colour != "white" else "red"
    changed = (*objects[:index], replace(thing, colour=other), *objects[index + 1 :])
    before, after = (render(place, version, (0,)).astype(int) for version in (objects, changed))
    return np.abs(before - after).sum(-1) > 40


@pytest.mark.parametrize("split", ["val", "counter_prior"])
def test_boxes_and_visible_fractions_are_those_of_the_pixels(split):
    checked = 0
    for scene in scenes(split, 60):
        covered = any(thing.faint for thing in scene.objects)
        for index, thing in enumerate(scene.objects):
            if covered or thing.visible < 0.2 or thing.colour == "black":
                continue
            changed = repainted(scene.place, scene.objects, index)
            rows, cols = np.nonzero(changed)
            left, top, right, bottom = thing.box
            assert left - 1 <= cols.min() <= cols.max() <= right, thing
            assert top - 1 <= rows.min() <= rows.max() <= bottom, thing
            if thing.visible == 1:
                assert cols.max() - cols.min() >= right - left - 5, thing
            whole = repainted(scene.place, (replace(thing, centre=(32, 32)),), 0)
            assert changed.sum() / whole.sum() == pytest.approx(thing.visible, abs=0.1), thing
            checked += 1
    assert checked > 60


def test_covering_lowers_the_visible_fraction_and_the_border_cuts():
    cup = Object("cup", "red", (32, 32), 12)
    sofa = Object("sofa", "blue", (32, 32), 24)
    alone = place_objects([cup])[0]
    assert alone.visible == 1
    assert place_objects([cup, sofa])[0].visible < 0.4
    assert place_objects([sofa, cup])[1] == alone
    assert place_objects([replace(cup, centre=(0, 32))])[0].visible < 0.6
    assert place_objects([replace(cup, centre=(-40, 32))])[0].visible == 0


def test_faint_objects_are_nearer_the_background():
    solid = Object("table", "red", (32, 32), 24)
    background = render("park", [], (1,)).astype(int)
    strong = np.abs(render("park", [solid], (1,)) - background).sum()
    weak = np.abs(render("park", [replace(solid, opacity=0.3)], (1,)) - background).sum()
    assert 0.2 < weak / strong < 0.4


def test_every_class_looks_different():
    drawn = [owners(place_objects([Object(name, "red", (32, 32), 24)])) for name in CLASSES]
    images = [render("park", [Object(name, "red", (32, 32), 24)], (0,)) for name in CLASSES]
    for i in range(len(CLASSES)):
        for j in range(i):
            changed = np.abs(images[i].astype(int) - images[j]).max(-1) > 60
            assert changed.sum() > 15, (CLASSES[i], CLASSES[j])
    assert all((grid == 0).sum() > 40 for grid in drawn)
