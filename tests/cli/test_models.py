"""`interp models`."""

import json

from interp.checks.base import Check
from interp.cli import models
from interp.families.base import family_names


def test_every_family_is_listed(interp_) -> None:
    rows = json.loads(interp_("models", "--json").out)
    assert [row["family"] for row in rows] == family_names()
    assert all(row["what it is"] for row in rows)
    takes = {row["family"]: row["takes"] for row in rows}
    assert (takes["llava"], takes["gpt2"]) == ("image, text", "text")
    assert "llava_next" in interp_("models").out


def test_a_family_passes_in_both_precisions(interp_, tmp_path) -> None:
    path = tmp_path / "models.md"
    done = interp_("models", "llama", "--check", "--markdown", path)
    assert done.code == 0, done.err
    assert "✗" not in done.out
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert lines[0].startswith("| model type | precision | logits = eager |")
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| llama", "float32"], ["| llama", "bfloat16"]]


def test_a_check_that_fails_is_named_and_the_exit_code_is_1(interp_, monkeypatch) -> None:
    import interp.testing.models

    checks = [Check("neutral", True), Check("generation", False, "AssertionError: it does not\nmore")]
    monkeypatch.setattr(interp.testing.models, "check_family", lambda name, dtype: checks)
    done = interp_("models", "llama", "--check")
    assert done.code == 1
    assert "✗" in done.out
    assert "llama float32, generation: AssertionError: it does not" in done.err


def test_unknown_families_get_the_nearest_names(refused) -> None:
    refused(("models", "lava"), 2, "no family 'lava'", "did you mean llava")


def test_precisions_are_those_of_torch() -> None:
    import torch

    assert [getattr(torch, p).itemsize for p in models.PRECISIONS] == [4, 2]
