"""A recipe so small that all its stages run in seconds."""

import pytest
import torch

from interp.world.ladder.config import Recipe, RowSettings, Schedule
from interp.world.ladder.run import train
from interp.world.training.config import NetworkConfig, SinkConfig

SHORT = Schedule(steps=5, batch=3, rate=1e-2, warmup=2, anneal=2, save_every=2, log_every=2, check_every=4)


def tiny_recipe(**changes):
    settings = {
        "name": "tiny",
        "tower": Schedule(**(vars(SHORT) | {"muon": True})),
        "language": SHORT,
        "projector": SHORT,
        "joint": Schedule(**(vars(SHORT) | {"muon": True})),
        "compiled": False,
        "processes": 1,
        "network": NetworkConfig(width=16, layers=2, heads=2, inner=24, vision_layers=1, vision_heads=2),
        "sink": SinkConfig(writer=0),
        "rows": RowSettings(text=24, answers=110, pairs=1),
    }
    return Recipe(**(settings | changes))


@pytest.fixture(scope="session")
def recipe_with():
    """A function from changed settings to the tiny recipe."""
    return tiny_recipe


@pytest.fixture(scope="session")
def tiny():
    return tiny_recipe()


@pytest.fixture(autouse=True)
def small_checks(monkeypatch):
    """Measure the scores of a stage on few scenes, and leave the number of threads as it was."""
    threads = torch.get_num_threads()
    monkeypatch.setattr("interp.world.ladder.tower.CHECKED", 4)
    monkeypatch.setattr("interp.world.ladder.joint.CHECKED", 4)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def uninterrupted(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    train(tiny, out)
    torch.set_num_threads(threads)
    return out
