"""`interp world`: what the commands write."""

import json

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from interp.cli.world import app
from interp.world import scenes


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_show_draws_scenes_and_says_what_they_are(tmp_path):
    result = run("show", "--n", 7, "--out", tmp_path / "sheet.png", "--scale", 1, "--split", "val")
    assert result.exit_code == 0, result.output
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (128, 6 * 64, 3)
    drawn = scenes("val", 7)
    np.testing.assert_array_equal(sheet[64:, :64], drawn[6].pixels)
    assert drawn[3].captions["detailed"] in result.output


def test_scenes_are_exported_with_their_truth(tmp_path):
    result = run("scenes", tmp_path, "--n", 3, "--split", "counter_prior", "--seed", 2)
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    for record, scene in zip(records, scenes("counter_prior", 3, seed=2), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / record["image"])), scene.pixels)
        assert [thing["name"] for thing in record["objects"]] == [thing.name for thing in scene.objects]
        assert record["counter"]["trigger"] == scene.counter.trigger
        assert len(record["questions"]) == len(scene.questions)


def test_wrong_choices_are_refused(tmp_path):
    for arguments in (["show", "--split", "dev"], ["train", "--stage", "sight", "--out", tmp_path]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "there are vision" in result.output or "splits: train" in result.output


def test_every_command_has_an_example():
    for command in ("show", "scenes", "train", "card"):
        assert "Example" in run(command, "--help").output
