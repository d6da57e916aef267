"""Training that is killed goes on to the same weights, whatever the stage and the moment."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from interp.world.evaluation import ask, load_model
from interp.world.ladder import loop
from interp.world.ladder.config import RowSettings
from interp.world.ladder.run import STAGES, load_trained, train
from interp.world.scene import scenes
from interp.world.training.run import export
from interp.world.training.state import load_tensors

PAIRED = RowSettings(text=24, answers=110, pairs=2)


class KilledError(Exception):
    """Stands for a SIGKILL."""


def kill_at_step(step, monkeypatch):
    """Let the learning rate of one step be the last thing that happens."""

    def stop(at, schedule, stable):
        if at == step:
            raise KilledError
        return learning_rate(at, schedule, stable)

    learning_rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", stop)


def kill_in_save(count, monkeypatch):
    """Let the count-th checkpoint be cut off in the middle of its file."""
    left = [count]

    def stop(tensors, file, metadata):
        left[0] -= 1
        if left[0]:
            save_file(tensors, file, metadata)
            return
        file.write_bytes(b"half a checkpoint")
        raise KilledError

    monkeypatch.setattr("interp.world.training.state.save_file", stop)


def begin_at(stage, uninterrupted, out):
    """Copy what the stages before one have left."""
    for before in STAGES[: STAGES.index(stage)]:
        shutil.copy(uninterrupted / f"{before}.safetensors", out)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("kill", "moment"), [(kill_at_step, s) for s in range(5)] + [(kill_in_save, n) for n in (1, 2, 3, 4)]
)
def test_a_killed_run_goes_on_to_the_same_weights(stage, kill, moment, tiny, uninterrupted, tmp_path, monkeypatch):
    begin_at(stage, uninterrupted, tmp_path)
    with monkeypatch.context() as patch:
        kill(moment, patch)
        with pytest.raises(KilledError):
            train(tiny, tmp_path, (stage,))
    train(tiny, tmp_path, (stage,))
    expected, _ = load_tensors(uninterrupted / f"{stage}.safetensors")
    found, metadata = load_tensors(tmp_path / f"{stage}.safetensors")
    assert metadata["step"] == "5"
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_finished_run_is_left_alone(tiny, uninterrupted):
    before = {file: file.stat().st_mtime_ns for file in uninterrupted.iterdir()}
    train(tiny, uninterrupted)
    assert {file: file.stat().st_mtime_ns for file in uninterrupted.iterdir()} == before


def test_a_longer_run_goes_on_from_the_end_of_the_stable_phase(tiny, recipe_with, uninterrupted, tmp_path):
    longer = recipe_with(tower=loop.Schedule(**(vars(tiny.tower) | {"steps": 8})))
    whole, continued = tmp_path / "whole", tmp_path / "continued"
    shutil.copytree(uninterrupted, continued)
    for stage in STAGES[1:]:
        (continued / f"{stage}.safetensors").unlink()
    for out in (whole, continued):
        train(longer, out)
    for stage in STAGES:
        expected, metadata = load_tensors(whole / f"{stage}.safetensors")
        torch.testing.assert_close(load_tensors(continued / f"{stage}.safetensors")[0], expected, rtol=0, atol=0)
        assert metadata["step"] == ("8" if stage == "tower" else "5")


def test_a_stage_ends_when_its_target_is_reached(tiny, recipe_with, tmp_path):
    schedule = loop.Schedule(**(vars(tiny.tower) | {"steps": 50, "check_every": 3, "target": 0.0}))
    early = recipe_with(tower=schedule)
    train(early, tmp_path, ("tower",))
    _, metadata = load_tensors(tmp_path / "tower.safetensors")
    assert (metadata["stable"], metadata["step"], metadata["early"]) == ("3", "5", "yes")
    written = (tmp_path / "tower.safetensors").stat().st_mtime_ns
    train(early, tmp_path, ("tower",))
    assert (tmp_path / "tower.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": 1}, "was made with world 2, the recipe wants world 1; choose another folder"),
        ({"seed": 3}, "was made with seed 0, the recipe wants seed 3"),
    ],
)
def test_a_checkpoint_of_another_world_or_seed_is_refused(changes, message, recipe_with, uninterrupted, tmp_path):
    other = recipe_with(**changes)
    shutil.copy(uninterrupted / "tower.safetensors", tmp_path)
    with pytest.raises(ValueError, match=message):
        train(other, tmp_path)
    with pytest.raises(ValueError, match=message):
        load_trained(other, uninterrupted)


def test_the_tower_is_frozen_in_the_joint_stages(uninterrupted):
    tower, _ = load_tensors(uninterrupted / "tower.safetensors")
    decoder, _ = load_tensors(uninterrupted / "language.safetensors")
    projector, _ = load_tensors(uninterrupted / "projector.safetensors")
    joint, _ = load_tensors(uninterrupted / "joint.safetensors")
    for name, value in tower.items():
        if name.startswith("model.tower."):
            inside = name.replace("model.tower.", "model.model.model.vision_tower.")
            torch.testing.assert_close(joint[inside], value, rtol=0, atol=0)
    name = "model.model.model.language_model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(projector[name], decoder[name.replace("model.model.", "", 1)], rtol=0, atol=0)
    assert not torch.equal(joint[name], projector[name])


def test_a_finished_run_exports_a_model_that_loads(tiny, uninterrupted, tmp_path):
    export(load_trained(tiny, uninterrupted), tmp_path)
    model, processor = load_model(tmp_path)
    about = scenes("val", 2, version=2)
    assert len(ask(model, processor, [scene.image for scene in about], ["Describe the image."] * 2, longest=3)) == 2


def test_two_processes_lead_to_the_same_weights_every_time(recipe_with, uninterrupted, tmp_path):
    recipe = recipe_with(
        processes=2,
        projector=loop.Schedule(steps=2, batch=4, rate=1e-2),
        joint=loop.Schedule(steps=2, batch=4, rate=1e-2),
        rows=PAIRED,
    )
    found = []
    for name in ("first", "second"):
        out = tmp_path / name
        out.mkdir()
        begin_at("joint", uninterrupted, out)
        train(recipe, out, ("joint",))
        found.append(load_tensors(out / "joint.safetensors")[0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
