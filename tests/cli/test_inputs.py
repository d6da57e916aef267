"""What the arguments stand for."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import interp.analysis
from interp.analysis.base import Analysis
from interp.analysis.sinks import Sinks
from interp.arguments import analyses as known_analyses
from interp.cli import inputs
from interp.data.tokens import Segment
from interp.interventions.attention import MaskAttention, ScaleScores
from interp.registry import concrete_names
from interp.world import scenes


@pytest.mark.parametrize(
    ("text", "layers"),
    [(None, None), ("3", [3]), ("0-3", [0, 1, 2, 3]), ("0,3,5-6", [0, 3, 5, 6]), ("2-2", [2]), (" 1, 2", [1, 2])],
)
def test_layers(text, layers) -> None:
    assert inputs.layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-2", "1,,2", "1.5"])
def test_layers_written_otherwise_are_refused(text) -> None:
    with pytest.raises(typer.BadParameter, match="layers are written 0-7, or 0,3,5-6"):
        inputs.layers(text)


def test_scenes_and_files_and_none(tmp_path) -> None:
    np.testing.assert_array_equal(np.asarray(inputs.image("scene:val/2")), scenes("val", 3)[2].pixels)
    assert inputs.image("none") is None
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    assert inputs.image(str(tmp_path / "red.png")).size == (3, 2)


@pytest.mark.parametrize("name", ["scene:tset/3", "scene:test", "scene:test/x", "scene:test/-1"])
def test_scenes_that_are_not_there(name) -> None:
    with pytest.raises(ValueError, match="a scene is scene:SPLIT/N with SPLIT one of train, val, test, counter_prior"):
        inputs.image(name)


def test_changes_come_back_from_their_file(tmp_path) -> None:
    interventions = (
        MaskAttention(keys=0, queries=Segment.USER | Segment.RESPONSE),
        ScaleScores(Segment.IMAGE, 1.2, layers=(1, 2)),
    )
    path = tmp_path / "changes.json"
    path.write_text(json.dumps([c.to_dict() for c in interventions]))
    assert inputs.interventions(path) == interventions
    path.write_text(json.dumps(interventions[0].to_dict()))
    assert inputs.interventions(path) == interventions[:1]
    by_hand = tmp_path / "interventions.yaml"
    by_hand.write_text(
        "- {kind: MaskAttention, keys: [0], queries: USER|RESPONSE}\n- {kind: ScaleScores, keys: IMAGE, by: 1.2, layers: [1, 2]}"
    )
    assert inputs.interventions(by_hand) == interventions
    assert inputs.interventions(None) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("3", "does not hold a list of interventions; expected for example"),
        ("[3]", "does not hold a list of interventions"),
        ('[{"kind": "MaskAtention", "keys": {"kind": "every"}}]', "unknown intervention 'MaskAtention'.*known: "),
        ('[{"kind": "ScaleScores", "keys": {"kind": "every"}, "times": 2}]', "has no setting times"),
        ('[{"kind": "ScaleScores"}]', "missing .* argument"),
        ('[{"kind": "MaskAttention", "keys": {"kind": "segments", "of": ["IMAGE"]}}]', "a token selection is"),
    ],
)
def test_files_that_hold_no_changes(tmp_path, text, message) -> None:
    path = tmp_path / "changes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"changes.json.*{message}"):
        inputs.interventions(path)


def test_every_analysis_is_found_by_name_and_knows_what_it_is() -> None:
    known = known_analyses()
    assert known["sinks"] is Sinks
    assert list(known) == concrete_names(Path(interp.analysis.__path__[0]), "Analysis")
    ours = {kind for kind in Analysis.__subclasses__() if kind.__module__.startswith("interp.analysis.")}
    assert ours <= set(known.values())
    assert inputs.analyses(["sinks", "budget"])["sinks"] == Sinks()


@pytest.mark.parametrize(
    ("name", "near"), [("sink", "did you mean sinks"), ("bugdet", "did you mean budget"), ("zzz", "known: .*budget")]
)
def test_unknown_analyses_get_the_nearest_names(name, near) -> None:
    with pytest.raises(typer.BadParameter, match=f"no analysis '{name}'.*{near}"):
        inputs.analyses([name])
