"""`interp compare` and `interp runs`."""

import csv
import io
import json

import pytest

import interp
from interp.runs.directory import runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of a few questions, made once."""
    place = tmp_path_factory.mktemp("runs")
    interp.run("scenes", "pope:n=2,longest=2", ["vaf:enhance=1.5"], limit=4, folder=place, progress=False)
    return place


SHORT = ("--bench", "pope:n=2,longest=2", "--limit", 4)


def test_compare_prints_the_table_of_the_library_and_asks_nothing_twice(interp_, folder) -> None:
    before = {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in runs(folder)}
    done = interp_("compare", *SHORT, "--methods", "greedy,vaf:enhance=1.5", "--folder", folder, "--format", "csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    table = interp.run("scenes", "pope:n=2,longest=2", ["vaf:enhance=1.5"], limit=4, folder=folder, progress=False)
    assert [r["method"] for r in rows] == list(table.frame["method"])
    assert float(rows[-1]["accuracy"]) == table.score("vaf", "accuracy")
    assert {r.name: (r.path / "rows.jsonl").stat().st_mtime_ns for r in runs(folder)} == before


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
    assert [(r["batch_size"], r["attention"]) for r in rows] == [("16", "sdpa"), ("1", "sdpa"), ("16", "explicit")]


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
    name = runs(tmp_path)[0].name
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert interp_("runs", "rm", name, "--folder", tmp_path).code != 0
    assert runs(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert interp_("runs", "rm", name, "--folder", tmp_path).code == 0
    assert not runs(tmp_path)
    interp.run("scenes", "pope:n=1,longest=1", limit=1, folder=tmp_path, progress=False)
    assert interp_("runs", "rm", tmp_path / name, "--yes").code == 0
    assert not (tmp_path / name).exists()
    assert "no runs in" in interp_("runs", "list", "--folder", tmp_path).out


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("compare", "--methods", "vaf"), 2, ("--bench",)),
        (("compare", "--bench", "poop"), 1, ("no benchmark 'poop' (do you mean pope?)",)),
        (("compare", "--bench", ","), 1, ("--bench names no benchmark", "pope")),
        (("compare", "--bench", "pope:parsr=vcd"), 1, ("no setting 'parsr' (do you mean parser?)",)),
        (("compare", "--bench", "pope:parser=vdc"), 1, ("vdc",)),
        (("compare", "--bench", "pope", "--methods", "spaer,vaf"), 1, ("no method 'spaer' (do you mean spear?)",)),
        (("compare", "--bench", "pope", "--method", "vaf:enhanse=2"), 1, ("do you mean enhance?",)),
        (("compare", "--bench", "pope", "--method", "vaf:1.3"), 1, ("a setting is written NAME=VALUE",)),
        (("compare", "--bench", "pope", "--format", "html"), 2, ("text, csv, markdown, latex", "'html'")),
        (("compare", "--bench", "pope", "--limit", 0), 2, ("limit",)),
        (("compare", "--bench", "pope", "--model", "./nothing"), 1, ("nothing",)),
        (("compare", "--bench", "pope:data=none.json"), 1, ("none.json",)),
        (("runs", "show", "scenes-poqe"), 1, ("no run 'scenes-poqe'", "did you mean", "scenes-pope-greedy")),
        (("runs", "show", "scenes-pope"), 1, ("may be any of", "write more of the name")),
        (("runs", "rescore", "scenes-pope-vaf", "--reading", "n=3"), 1, ("more than how pope reads", "parser")),
        (("runs", "rescore", "scenes-pope-vaf", "--reading", "vcd"), 1, ("a setting is written NAME=VALUE",)),
        (("runs", "compare", "scenes-pope-vaf", "--format", "html"), 2, ("'html'",)),
        (("runs", "rm", "nothing", "--yes"), 1, ("no run 'nothing'",)),
    ],
)
def test_wrong_input(refused, folder, given, code, words) -> None:
    refused((*given, "--folder", folder), code, *words)
