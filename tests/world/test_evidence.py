"""Errors against evidence, counted by hand."""

import pytest

from interp.world import Object, Scene
from interp.world.evidence import SLOTS, binned, measure_inventions
from interp.world.scoring import Rate


def test_bins_are_half_open_and_the_last_is_closed():
    found = binned([0.0, 19.9, 20.0, 40.0], [True, False, True, True], (0.0, 20.0, 40.0))
    assert found.rates == (Rate(1, 2), Rate(2, 2))
    assert found.edges == (0.0, 20.0, 40.0)


def scene(*names, sigma, place="kitchen"):
    things = tuple(Object(name, "red", (12 + 20 * i, 32), 14) for i, name in enumerate(names))
    return Scene(place, things, (1,), sigma=sigma, version=2)


def test_inventions_are_counted_by_noise_slot_and_expectation():
    about = [scene("table", sigma=10.0), scene("table", sigma=10.0), scene("table", "chair", sigma=90.0)]
    captions = ["a table and a chair", "a table", "a table, a boat and a boat"]
    found = measure_inventions(captions, about)
    assert found.by_noise.rates == (Rate(1, 2), Rate(0, 0), Rate(0, 0), Rate(0, 0), Rate(1, 1))
    assert found.by_slot[:3] == (Rate(0, 3), Rate(2, 2), Rate(1, 1))
    assert len(found.by_slot) == SLOTS
    assert found.expected.hits == 1
    assert found.unexpected.hits == 1
    assert found.repeated == Rate(1, 3)
    assert sum(part.hits for part in found.missed.rates) == 1
    assert sum(part.n for part in found.missed.rates) == 4
    assert found.ratio == pytest.approx(found.expected.value / found.unexpected.value)


def test_a_perfect_caption_invents_nothing():
    found = measure_inventions(["a table"], [scene("table", sigma=50.0)])
    assert found.by_slot[0] == Rate(0, 1)
    assert found.expected.hits == found.unexpected.hits == found.repeated.hits == 0
    assert found.ratio == float("inf")
