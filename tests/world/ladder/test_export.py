"""Exported models say which version of the world they know, and are refused by another."""

import pytest

from interp.world.evaluation import load_model
from interp.world.ladder.export import export
from interp.world.ladder.run import load_trained
from interp.world.models import MODELS
from interp.world.targets import measure
from interp.world.version import check_version, world_version


@pytest.fixture(scope="module")
def exported(tiny, uninterrupted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export(load_trained(tiny, uninterrupted), tiny, folder)
    return load_model(folder)


def test_the_version_is_kept(exported):
    model, _ = exported
    assert world_version(model.config) == 2
    assert model.config.recipe == "tiny"
    check_version(model.config, 2)


def test_another_version_is_refused(exported):
    with pytest.raises(ValueError, match="was trained in version 2 of the world and is asked about version 1"):
        measure(*exported, version=1, n=14)
    first = load_model(MODELS["scenes/tiny"].path)
    with pytest.raises(ValueError, match="was trained in version 1 of the world and is asked about version 2"):
        measure(*first, version=2, n=14)
