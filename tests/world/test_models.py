"""The names of the models: what ships is found, what does not says how to train it."""

import pytest

from interp.world.ladder.config import recipe_names
from interp.world.models import MODELS, find_weights


def test_every_recipe_has_a_name_and_every_name_but_the_first_world_a_recipe():
    assert set(MODELS) - {"scenes/tiny"} == set(recipe_names())
    assert all(model.version == 2 for name, model in MODELS.items() if name != "scenes/tiny")


def test_the_first_model_ships():
    tiny = MODELS["scenes/tiny"]
    assert (tiny.shipped, tiny.version) == (True, 1)
    assert (find_weights("scenes/tiny") / "model.safetensors").is_file()


def test_folders_are_different():
    assert len({model.folder for model in MODELS.values()}) == len(MODELS)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"no model 'scenes/seed-9' of the world; there are scenes, scenes/seed-1"):
        find_weights("scenes/seed-9")


def test_a_model_that_does_not_ship_says_how_to_train_it():
    missing = [name for name, model in MODELS.items() if not model.shipped]
    assert missing
    for name in missing:
        with pytest.raises(FileNotFoundError, match=f"python -m interp.world.ladder {name} --out"):
            find_weights(name)
