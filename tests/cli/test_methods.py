"""`interp methods`."""

import json
import subprocess
import sys

import pytest

from interp.cli import methods
from interp.families.base import family_names
from interp.interventions.method import methods as every


@pytest.fixture(scope="module")
def computed():
    """Return the facts about all methods, computed from a small model of every kind."""
    return methods.compute_record()


def test_every_method_is_listed_with_what_it_edits_and_where_it_fits(computed) -> None:
    rows = computed["methods"]
    assert list(rows) == sorted(every())
    assert all(row["what it is"] for row in rows.values())
    assert rows["vaf"]["edits"] == "attn_scores"
    assert rows["sgrs"]["edits"] == "decoding loop"
    assert rows["vcd"]["edits"] == rows["imccd"]["edits"] == "next token"
    assert (rows["adhh"]["needs"], rows["adhh"]["edits"]) == (["heads"], "pattern")
    assert [rows[m]["passes"] for m in ("vaf", "vcd", "sgrs")] == [1, 2, 3]
    for row in rows.values():
        assert not row["fits"] or sorted([*row["fits"], *row["not"]]) == family_names()
    assert set(rows["damro"]["fits"]) == {"blip_2", "instructblip", "internvl", "llava"}
    assert "no class token" in rows["damro"]["not"]["qwen2_vl"]
    assert "this is a language model" in rows["vcd"]["not"]["gpt2"]
    assert not [why for row in rows.values() for why in row["not"].values() if "it has layers" in why]


def test_the_record_agrees_with_the_methods(computed) -> None:
    """When this fails: interp methods --record."""
    recorded = json.loads(methods.RECORD.read_text(encoding="utf-8"))
    if recorded["kinds"] == computed["kinds"]:  # with a new kind of model nothing is read from the record
        assert {n: facts for n, facts in computed["methods"].items() if n in recorded["methods"]} == recorded["methods"]


def test_one_method_is_answered_from_the_record_without_torch(interp_) -> None:
    code = "import sys; from interp.cli.app import main; c = main(['methods', 'vcd', '--json']); print('torch' in sys.modules, c)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    assert last == "False 0"
    assert json.loads("\n".join(text))[0]["method"] == "vcd"


def test_a_method_that_is_not_recorded_is_computed(interp_, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(methods, "RECORD", tmp_path / "none.json")
    monkeypatch.setattr(methods, "_small_models", dict)
    (row,) = json.loads(interp_("methods", "vaf", "--json").out)
    assert (row["method"], row["fits"]) == ("vaf", [])


def test_one_model_is_asked_which_fit(interp_) -> None:
    done = interp_("methods", "vcd", "sgrs", "--model", "scenes")
    assert (done.code, done.out.count("yes")) == (0, 2)
    assert "VCD: contrasts the logits" in done.out


def test_a_cell_gives_each_reason_once() -> None:
    refused = {"a": "it is small", "b": "it is small", "c": "it is odd"}
    assert methods._fits(["d"], refused) == "1 of 4; not a, b: it is small; not c: it is odd"
    assert methods._fits([], {"a": "it is odd"}) == "no: it is odd"
    assert (methods._fits(["a"], {}), methods._fits(["a", "b"], {})) == ("yes", "all")


def test_unknown_methods_get_the_nearest_names(refused) -> None:
    refused(("methods", "vdc"), 2, "no method 'vdc'", "did you mean vcd")
