"""`interp capture`."""

import json

import pytest
import torch

import interp
from interp.world import scenes

ASK = ("scene:test/3", "Describe the image.")


def test_the_file_holds_what_the_library_captures(interp_, tmp_path) -> None:
    path = tmp_path / "seen.safetensors"
    given = (
        "--response",
        "A park with a dog.",
        "--want",
        "pattern",
        "--want",
        "resid_post",
        "--grad",
        "pattern",
        "--target",
        3,
    )
    done = interp_("capture", *ASK, *given, "--layers", "0,5-6", "--queries", "emitting", "--out", path)
    assert done.code == 0, done.err
    model = interp.load("scenes")
    prompt = model.prepare(scenes("test", 4)[3].image, ASK[1]).with_response("A park with a dog.")
    want = interp.capture(
        model,
        prompt,
        want={"pattern", "resid_post"},
        grad={"pattern"},
        target=3,
        layers=(0, 5, 6),
        queries=interp.EMITTING,
    )
    got = interp.Capture.load(path)
    assert set(got.arrays) - {"segment"} == set(want.arrays)
    for name, array in want.arrays.items():
        torch.testing.assert_close(got[name], array)
    assert (got.layers, got.queries, got.tokens) == (want.layers, want.queries, want.tokens)
    assert "layer head query key" in done.out
    assert str(path) in done.out


def test_the_model_can_reply_first(interp_, tmp_path) -> None:
    path = tmp_path / "seen.safetensors"
    said = json.loads(interp_("capture", *ASK, "--generate", "--max-new-tokens", 3, "--out", path, "--json").out)
    prompt = len(interp.load("scenes").prepare(scenes("test", 4)[3].image, ASK[1]))
    assert prompt < len(said["tokens"]) <= prompt + 3
    assert said["arrays"]["pattern"][-1] == len(said["tokens"])


def test_an_estimate_runs_nothing(interp_) -> None:
    said = json.loads(interp_("capture", *ASK, "--estimate", "--json").out)
    assert 0 < said["kept"] <= said["during"]
    assert "GiB" in interp_("capture", *ASK, "--estimate").out


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ((*ASK,), 2, ("--out FILE", "--estimate")),
        ((*ASK, "--out", "x", "--estimate"), 2, ("give either --out FILE or --estimate",)),
        ((*ASK, "--estimate", "--want", "patern"), 1, ("no site 'patern'", "pattern")),
        ((*ASK, "--estimate", "--layers", "7-3"), 2, ("layers are written 0-7",)),
        ((*ASK, "--estimate", "--layers", "0-99"), 1, ("out of range", "has layers 0..")),
        ((*ASK, "--estimate", "--grad", "pattern"), 1, ("gradients need a target",)),
        ((*ASK, "--estimate", "--grad", "pattern", "--target", "0"), 1, ("the prompt has no reply",)),
        ((*ASK, "--estimate", "--target", "0"), 1, ("no gradient asked for",)),
        ((*ASK, "--estimate", "--response", "A", "--generate"), 2, ("not both",)),
        ((*ASK, "--estimate", "--queries", "some"), 2, ("emitting",)),
        (("none.png", "Hi", "--estimate"), 1, ("no image file",)),
    ],
)
def test_wrong_input(refused, given, code, words) -> None:
    refused(("capture", *given), code, *words)


def test_a_folder_that_cannot_be_written(refused, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    refused(("capture", *ASK, "--layers", "0", "--out", tmp_path / "file" / "seen.safetensors"), 1, "file")
