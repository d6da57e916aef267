import json

import pytest

from interp.cli.app import main

QUESTION = "Is there a chair in the image?"


def test_ablating_sinks_prints_every_reply(capsys):
    assert main(["ablate", "sinks", "scene:test/1", QUESTION, "--max-new-tokens", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["what"].startswith("sinks: '<s>' at 0")
    assert [r["how"] for r in found["replies"]] == ["baseline", "mask", "zero", "mean"]
    assert all(r["tokens"] <= 4 for r in found["replies"])


def test_ablating_heads_prints_a_table(capsys):
    assert main(["ablate", "heads", "scene:test/1", QUESTION, "3.1", "5.0", "--max-new-tokens", "3"]) == 0
    said = capsys.readouterr().out
    assert "heads: 3.1, 5.0" in said
    assert "baseline" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sinks", "scene:test/1", QUESTION, "--how", "drop"], 1, "how is one of mask, zero, mean, got 'drop'"),
        (["heads", "scene:test/1", QUESTION, "three"], 2, "a head is written LAYER.HEAD"),
        (["heads", "scene:test/1", QUESTION, "3.99"], 1, "head"),
        (["heads", "scene:test/1", QUESTION, "99.0"], 1, "layer"),
    ],
)
def test_what_cannot_be_ablated_is_said(capsys, arguments, code, message):
    assert main(["ablate", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_generating_under_methods(capsys):
    call = ["generate", "scene:test/1", QUESTION, "--max-new-tokens", "3", "--audit"]
    assert main([*call, "--method", "vaf:enhance=1.3,mode=abs", "--method", "spear"]) == 0
    assert "ScaleScores" in capsys.readouterr().out
    assert main([*call, "--method", "vaff"]) == 1
    assert "did you mean vaf?" in capsys.readouterr().err
    assert main([*call, "--method", "vaf:enhance"]) == 1
    assert "a setting is written NAME=VALUE" in capsys.readouterr().err
