"""The recipe: killed runs go on to the same weights, the planted rest is where it should be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.world.processor import build_tokenizer
from interp.world.resting import rest_on_text
from interp.world.training.config import NetworkConfig, Recipe, SinkConfig, StageConfig, TextConfig, read_recipe
from interp.world.training.language import train_language
from interp.world.training.multimodal import train_multimodal
from interp.world.training.network import build_network
from interp.world.training.run import export, load_trained, train
from interp.world.training.state import learning_rate, load_tensors
from interp.world.training.vision import train_placing, train_vision

SHORT = StageConfig(steps=4, batch=2, rate=1e-2, warmup=2, save_every=2, log_every=2)
TINY = Recipe(
    vision=SHORT,
    language=SHORT,
    multimodal=SHORT,
    placing=SHORT,
    tuning=SHORT,
    compiled=False,
    processes=1,
    network=NetworkConfig(width=16, layers=2, heads=2, inner=24, vision_layers=1, vision_heads=2),
    sink=SinkConfig(writer=0),
    text=TextConfig(row=24, answers=40),
    tuning_text=TextConfig(row=24, answers=40, places=2.0),
)


ORDER = ("vision", "language", "multimodal", "placing", "tuning")
STAGES = "".join(f"[{name}]\nsteps = 3\nbatch = 2\nrate = 0.1\n" for name in ORDER)


class KilledError(Exception):
    """Stands for a SIGKILL between two checkpoints."""


def killed_at(step, monkeypatch):
    """Let the learning rate of one step be the last thing that happens."""

    def stop(at, config):
        if at == step:
            raise KilledError
        return learning_rate(at, config)

    monkeypatch.setattr("interp.world.training.state.learning_rate", stop)


def run_stage(stage, out):
    out.mkdir(exist_ok=True)
    if stage == "vision":
        train_vision(TINY, out)
    elif stage == "language":
        train_language(TINY, out)
    elif stage == "placing":
        train_placing(TINY, out)
    else:
        train_multimodal(0, TINY, out, stage)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    for stage in ORDER:
        run_stage(stage, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("stage", ORDER)
def test_a_killed_run_goes_on_to_the_same_weights(stage, uninterrupted, tmp_path, monkeypatch):
    for before in ORDER[: ORDER.index(stage)]:
        (tmp_path / f"{before}.safetensors").write_bytes((uninterrupted / f"{before}.safetensors").read_bytes())
    with monkeypatch.context() as patch:
        killed_at(3, patch)
        with pytest.raises(KilledError):
            run_stage(stage, tmp_path)
    halfway, metadata = load_tensors(tmp_path / f"{stage}.safetensors")
    assert metadata["step"] == "2"
    run_stage(stage, tmp_path)
    expected, _ = load_tensors(uninterrupted / f"{stage}.safetensors")
    found, metadata = load_tensors(tmp_path / f"{stage}.safetensors")
    assert metadata["step"] == "4"
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert any(not torch.equal(halfway[name], found[name]) for name in found)
    assert not list(tmp_path.glob("*.partial"))


def test_a_finished_run_exports_a_model_that_loads(uninterrupted, tmp_path):
    from interp.world.evaluation import ask, load_model
    from interp.world.scene import scenes

    export(load_trained(TINY, uninterrupted), tmp_path)
    model, processor = load_model(tmp_path)
    replies = ask(model, processor, [scene.image for scene in scenes("val", 2)], ["Describe the image."] * 2, longest=3)
    assert len(replies) == 2
    trained, _ = load_tensors(uninterrupted / "tuning.safetensors")
    torch.testing.assert_close(model.lm_head.weight, trained["model.model.lm_head.weight"], atol=1e-3, rtol=1e-3)


def test_the_tower_is_frozen_while_the_rest_learns(uninterrupted):
    tower, _ = load_tensors(uninterrupted / "vision.safetensors")
    decoder, _ = load_tensors(uninterrupted / "language.safetensors")
    both, _ = load_tensors(uninterrupted / "multimodal.safetensors")
    for name, value in tower.items():
        if name.startswith("model.tower."):
            inside = name.replace("model.tower.", "model.model.model.vision_tower.")
            torch.testing.assert_close(both[inside], value, rtol=0, atol=0)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(both[name.replace("model.", "model.model.model.", 1)], decoder[name])


def test_the_log_says_how_it_goes(uninterrupted):
    lines = [json.loads(line) for line in (uninterrupted / "vision.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["loss"] > 0 for line in lines)


def test_the_learning_rate_rises_and_falls():
    config = StageConfig(steps=100, batch=1, rate=1.0, floor=0.1, warmup=10)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[10], abs=0.03)
    assert rates[50] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_the_start_is_dormant():
    tokenizer = build_tokenizer()
    network = NetworkConfig(layers=4)
    planted = rest_on_text(build_network(tokenizer, network, SinkConfig()).eval(), tokenizer, n=4)
    bare = rest_on_text(build_network(tokenizer, network, SinkConfig(planted=False)).eval(), tokenizer, n=4)
    assert (planted.start[2:].mean(1) > 0.4).all()
    assert (planted.start[:2].mean(1) < 0.05).all()
    assert bare.start.max() < 0.05
    assert planted.massive[1] > 500
    assert bare.massive[1] < 50
    assert planted.dim[1] == SinkConfig().dim
    np.testing.assert_array_equal(planted.largest[1:3], 1)
    assert planted.awake(planted) == []
    assert len(bare.awake(planted)) >= 12
    assert planted.loss_without_start == pytest.approx(planted.loss, abs=0.05)


def test_the_shipped_recipe_is_read():
    recipe = read_recipe()
    assert recipe.sink.planted
    assert recipe.text.carelessness <= 0.6
    assert recipe.multimodal.steps >= 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "no setting colour; there are vision, language"),
        ("seed = 1", "must set vision, language, multimodal, placing, tuning"),
        (f"{STAGES}[network]\nstepz = 3", r"\[network\] has no setting stepz"),
        (STAGES.replace("rate", "floor"), r"\[vision\] must set rate"),
    ],
)
def test_a_wrong_recipe_is_refused(text, message, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="no stage 'sight'; there are vision, language, multimodal, placing, tuning, all"
    ):
        train(replace(TINY), tmp_path, "sight")
