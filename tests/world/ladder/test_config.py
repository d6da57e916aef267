"""Recipes: those of the package can be read, wrong ones are refused."""

import pytest

from interp.world.ladder.config import Schedule, read_recipe, recipe_names
from interp.world.ladder.loop import learning_rate

STAGES = "".join(
    f"[{name}]\nsteps = 3\nbatch = 2\nrate = 0.1\n" for name in ("tower", "language", "projector", "joint")
)


def test_every_recipe_of_the_package_is_read():
    names = recipe_names()
    assert "scenes" in names
    for name in names:
        recipe = read_recipe(name)
        assert recipe.name == name
        assert recipe.world == 2
        assert recipe.carelessness <= 0.1


def test_the_ladder_is_complete():
    seeds = {name: read_recipe(name).seed for name in ("scenes", *(f"scenes/seed-{i}" for i in range(1, 5)))}
    assert sorted(seeds.values()) == [0, 1, 2, 3, 4]
    assert not read_recipe("scenes/unplanted").sink.planted
    assert read_recipe("scenes/unplanted").network.initializer_range == pytest.approx(0.1)
    assert read_recipe("scenes/careful").carelessness == 0
    assert read_recipe("scenes/large").network.width > read_recipe("scenes").network.width


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "scenes"\nname = "mine"\nseed = 9\n[joint]\nsteps = 2000\n')
    mine, base = read_recipe(path), read_recipe("scenes")
    assert (mine.name, mine.seed, mine.joint.steps) == ("mine", 9, 2000)
    assert mine.joint.rate == base.joint.rate
    assert mine.tower == base.tower


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'name = "a"\ncolour = 1\n{STAGES}', "no setting colour; there are name, tower"),
        ('name = "a"', "must set tower, language, projector, joint"),
        (f'name = "a"\n{STAGES}[network]\nstepz = 3', r"\[network\] has no setting stepz"),
        (f'name = "a"\n{STAGES}'.replace("rate", "floor"), r"\[tower\] must set rate"),
        (f'name = "a"\nworld = 5\n{STAGES}', "no version 5 of the world"),
        (f'name = "a"\n{STAGES}anneal = 9', "anneal = 9 must be between 0 and steps = 3"),
        (f'name = "a"\nprocesses = 3\n{STAGES}', "3 processes cannot share a batch of 2 rows with 4 of two images"),
        ('base = "scene"', "no recipe 'scene'; give a TOML file or one of scenes"),
    ],
)
def test_a_wrong_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_the_rate_is_stable_between_warm_up_and_anneal():
    schedule = Schedule(steps=100, batch=1, rate=1.0, warmup=10, anneal=20, floor=0.0)
    rates = [learning_rate(step, schedule, 80) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[10:80]) == {1.0}
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 21)
