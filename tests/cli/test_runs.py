"""`interp compare`, `interp sweep` and `interp runs`."""

import csv
import io
import json

import numpy as np
import pytest

import interp
from interp.runs.directory import list_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of a few questions, made once."""
    place = tmp_path_factory.mktemp("runs")
    interp.run("scenes", "pope:n=2,longest=2", ["vaf:enhance=1.5"], limit=4, folder=place, progress=False)
    return place


SHORT = ("--bench", "pope:n=2,longest=2", "--limit", 4)


def test_compare_prints_the_table_of_the_library_and_asks_nothing_twice(interp_, folder) -> None:
    before = {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in list_runs(folder)}
    done = interp_("compare", *SHORT, "--methods", "greedy,vaf:enhance=1.5", "--folder", folder, "--format", "csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    table = interp.run("scenes", "pope:n=2,longest=2", ["vaf:enhance=1.5"], limit=4, folder=folder, progress=False)
    assert [r["method"] for r in rows] == list(table.frame["method"])
    assert float(rows[-1]["accuracy"]) == table.score("vaf", "accuracy")
    assert {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in list_runs(folder)} == before


def test_compare_writes_several_tables_to_a_file(interp_, folder, tmp_path) -> None:
    path = tmp_path / "table.md"
    given = ("--bench", "steps:n=2,longest=3", "--folder", folder, "--format", "markdown", "--out", path)
    done = interp_("compare", *SHORT, *given)
    assert (done.code, done.out) == (0, ""), done.err
    assert str(path) in done.err
    said = path.read_text()
    assert said.count("| greedy |") == 2
    assert "benchmark pope" in said
    assert "benchmark steps" in said


def test_compare_checks_stability(interp_, tmp_path) -> None:
    done = interp_("compare", *SHORT, "--folder", tmp_path, "--stability", "--format", "csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(r["batch_size"], r["attention"]) for r in rows] == [("16", "sdpa"), ("1", "sdpa"), ("16", "eager")]


def test_sweep_erases_heads_from_the_models_own_replies(interp_, tmp_path) -> None:
    given = ("sweep", "--bench", "steps:n=2,longest=3", "--limit", 2, "--folder", tmp_path, "--format", "csv")
    done = interp_(*given, "--over", "heads")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    model = interp.load("scenes")
    swept = interp.sweep(model, "steps:n=2,longest=3", over="heads", limit=2, folder=tmp_path, progress=False)
    assert len(rows) == model.layers * model.heads
    change = np.mean([one.change().mean(-1).numpy() for one in swept], axis=0)
    for row in rows:
        assert float(row["change"]) == pytest.approx(change[int(row["layer"]), int(row["head"])], abs=1e-6)
        assert float(row["change_low"]) <= float(row["change"]) <= float(row["change_high"])
    sizes = [abs(float(row["change"])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0.01
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    assert "sweep heads step" in done.err
    said = interp_(*given[:-1], "text", "--over", "heads").out
    assert f"shown 20 of {len(rows)} heads" in said
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")} == files
    some = interp_(*given, "--over", "heads=1.2,3.0", "--at", "all")
    assert {(r["layer"], r["head"]) for r in csv.DictReader(io.StringIO(some.out))} == {("1", "2"), ("3", "0")}


def test_sweep_layers_and_settings_prints_the_table_of_the_library(interp_, tmp_path) -> None:
    given = ("sweep", *SHORT, "--folder", tmp_path, "--format", "csv")
    layers = interp_(*given, "--method", "vaf:enhance=2,mode=abs", "--over", "layers")
    assert layers.code == 0, layers.err
    rows = list(csv.DictReader(io.StringIO(layers.out)))
    whole = [r for r in rows if r["part"] == "total"]
    assert [r["layers"] for r in whole] == ["", *(f"({i},)" for i in range(interp.load("scenes").layers))]
    asked = {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in list_runs(tmp_path)}
    again = interp_(*given, "--method", "vaf:enhance=2,mode=abs", "--over", "layers")
    assert again.out == layers.out
    assert {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in list_runs(tmp_path)} == asked
    values = interp_(*given, "--method", "vaf", "--over", "enhance=1.0,2.0", "--max-new-tokens", 1)
    assert values.code == 0, values.err
    assert [r["enhance"] for r in csv.DictReader(io.StringIO(values.out)) if r["part"] == "total"] == ["", "1.0", "2.0"]


def test_list_and_show(interp_, folder) -> None:
    listed = json.loads(interp_("runs", "list", "--folder", folder, "--json").out)
    found = {r["method"]: r for r in listed if r["run"].startswith("scenes-pope")}
    assert found["vaf"]["settings"] == "enhance=1.5"
    assert found["vaf"]["samples"] == "4/4"
    assert "scenes-pope-vaf" in interp_("runs", "list", "--folder", folder).out
    said = interp_("runs", "show", "scenes-pope-vaf", "--rows", 2, "--folder", folder).out
    for words in ("4 of 4 samples, complete; 0 failed", "enhance=1.5", "accuracy", "weights", "Is there a"):
        assert words in said
    shown = json.loads(interp_("runs", "show", found["vaf"]["run"], "--rows", 1, "--folder", folder, "--json").out)
    assert shown["manifest"]["identity"]["batch_size"] == 16
    assert len(shown["rows"]) == 1


def test_compare_and_rescore_what_is_there(interp_, folder) -> None:
    reading = ("--reading", "parser=vcd", "--folder", folder)
    done = interp_("runs", "compare", "scenes-pope-greedy", "scenes-pope-vaf", *reading, "--format", "latex")
    assert done.code == 0, done.err
    assert "parser=vcd" in done.out
    scores = json.loads(interp_("runs", "rescore", "scenes-pope-vaf", *reading, "--json").out)
    assert 0 <= scores["total"]["accuracy"] <= 1
    assert "accuracy" in interp_("runs", "rescore", "scenes-pope-vaf", *reading).out


def test_rm_asks_first(interp_, folder, tmp_path, monkeypatch) -> None:
    interp.run("scenes", "pope:n=1,longest=1", limit=1, folder=tmp_path, progress=False)
    name = list_runs(tmp_path)[0].name
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert interp_("runs", "rm", name, "--folder", tmp_path).code != 0
    assert list_runs(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert interp_("runs", "rm", name, "--folder", tmp_path).code == 0
    assert not list_runs(tmp_path)
    interp.run("scenes", "pope:n=1,longest=1", limit=1, folder=tmp_path, progress=False)
    assert interp_("runs", "rm", tmp_path / name, "--yes").code == 0
    assert not (tmp_path / name).exists()
    assert "no runs in" in interp_("runs", "list", "--folder", tmp_path).out


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("compare", "--methods", "vaf"), 2, ("--bench",)),
        (("compare", "--bench", "poop"), 1, ("no benchmark 'poop' (did you mean pope?)",)),
        (("compare", "--bench", ","), 1, ("--bench names no benchmark", "pope")),
        (("compare", "--bench", "pope:parsr=vcd"), 1, ("no setting 'parsr' (did you mean parser?)",)),
        (("compare", "--bench", "pope:parser=vdc"), 1, ("vdc",)),
        (("compare", "--bench", "pope", "--methods", "spaer,vaf"), 1, ("no method 'spaer' (did you mean spear?)",)),
        (("compare", "--bench", "pope", "--method", "vaf:enhanse=2"), 1, ("did you mean enhance?",)),
        (("compare", "--bench", "pope", "--method", "vaf:1.3"), 1, ("a setting is written NAME=VALUE",)),
        (("compare", "--bench", "pope", "--format", "html"), 2, ("text, csv, markdown, latex", "'html'")),
        (("compare", "--bench", "pope", "--limit", 0), 2, ("limit",)),
        (("compare", "--bench", "pope", "--model", "./nothing"), 1, ("nothing",)),
        (("compare", "--bench", "pope:data=none.json"), 1, ("none.json",)),
        (("sweep", "--bench", "pope"), 2, ("--over",)),
        (("sweep", "--bench", "pope", "--over", "head"), 2, ("did you mean heads?", "name the --method")),
        (("sweep", "--bench", "pope", "--over", "enhance=1,2"), 2, ("for settings and layers name the --method",)),
        (("sweep", "--bench", "pope", "--over", "heads=3"), 2, ("a head is written LAYER.HEAD",)),
        (("sweep", "--bench", "pope", "--over", "heads", "--at", "stpe"), 2, ("--at is step or all, got 'stpe'",)),
        (
            ("sweep", "--bench", "pope:n=1,longest=1", "--limit", 1, "--over", "heads=3.99"),
            1,
            ("heads [(3, 99)] are not",),
        ),
        (("sweep", "--bench", "pope", "--over", "layer", "--method", "vaf"), 2, ("did you mean layers?",)),
        (("sweep", "--bench", "pope", "--over", "heads", "--method", "vaf"), 2, ("heads go without --method",)),
        (("sweep", "--bench", "pope", "--over", "layers", "--at", "all", "--method", "vaf"), 2, ("leave it out",)),
        (("sweep", "--bench", "pope", "--over", "enhence=1", "--method", "vaf"), 1, ("did you mean enhance?",)),
        (("sweep", "--bench", "pope", "--over", "layers", "--method", "vav"), 1, ("no method 'vav'", "vaf")),
        (("sweep", "--bench", "poop", "--over", "heads"), 1, ("did you mean pope?",)),
        (("runs", "show", "scenes-poqe"), 1, ("no run 'scenes-poqe'", "did you mean", "scenes-pope-greedy")),
        (("runs", "show", "scenes-pope"), 1, ("matches several runs:", "give more of the name")),
        (("runs", "rescore", "scenes-pope-vaf", "--reading", "n=3"), 1, ("more than how pope reads", "parser")),
        (("runs", "rescore", "scenes-pope-vaf", "--reading", "vcd"), 1, ("a setting is written NAME=VALUE",)),
        (("runs", "compare", "scenes-pope-vaf", "--format", "html"), 2, ("'html'",)),
        (("runs", "rm", "nothing", "--yes"), 1, ("no run 'nothing'",)),
    ],
)
def test_wrong_input(refused, folder, given, code, words) -> None:
    refused((*given, "--folder", folder), code, *words)
