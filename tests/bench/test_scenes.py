"""The drawn scenes of benchmarks."""

from interp.bench._scenes import load_scenes
from interp.world import scenes


def test_the_scenes_of_a_split_are_drawn_once():
    assert load_scenes("test", 2, 3) is load_scenes("test", 2, 3)
    assert [s.signature for s in load_scenes("test", 2, 3)] == [s.signature for s in scenes("test", 2, 3)]
    assert load_scenes("counter_prior", 2, 3) != load_scenes("test", 2, 3)
