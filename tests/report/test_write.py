"""The pages as files, and the two commands that write them."""

import json

import pytest

from interp.cli.app import main
from interp.report import collect
from interp.report.study_tables import build_tables
from interp.report.write import write_study


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, write_study(study, folder, command="interp demo --n 3", seconds=1.5)


def test_a_folder_holds_the_pages_the_summary_and_the_figures(report) -> None:
    folder, summary = report
    assert {p.suffix for p in folder.iterdir()} == {".png", ".html", ".json"}
    assert len(list(folder.glob("*.png"))) == 10
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))


def test_the_reply_shown_has_a_page_of_its_own(report, study) -> None:
    assert 'href="reply.html"' in (report[0] / "index.html").read_text(encoding="utf-8")
    text = (report[0] / "reply.html").read_text(encoding="utf-8")
    assert "interp demo --n 3" in text
    assert all(v.variant.name in text for v in study.comparison.views)


def test_the_command_writes_the_report_and_prints_its_tables(study, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(collect, "collect_study", lambda model, n, seed, progress: study)
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "new" / "report")]) == 0
    said = capsys.readouterr()
    assert (tmp_path / "new" / "report" / "index.html").is_file()
    for made in build_tables(study).values():
        assert made.title in said.out
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3


def test_a_folder_that_cannot_be_written_is_one_clear_message(study, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(collect, "collect_study", lambda model, n, seed, progress: study)
    (tmp_path / "file").write_text("")
    assert main(["demo", "--n", "3", "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "file" in said.err.splitlines()[-1]


def test_the_command_writes_the_page_and_says_what_was_said(tmp_path, capsys, data_of) -> None:
    file = tmp_path / "interventions.json"
    file.write_text('[{"kind": "ScaleScores", "keys": {"kind": "segment", "of": ["IMAGE"]}, "by": 1.5}]')
    given = ["report", "scene:test/3", "What do you see?", "--interventions", str(file), "--method", "vaf:enhance=1.3"]
    assert main([*given, "--out", str(tmp_path / "a.html"), "--max-new-tokens", "12", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [r["model"] for r in told["replies"]] == ["baseline", "vaf:enhance=1.3", "interventions.json"]
    data = data_of((tmp_path / "a.html").read_text())
    assert [r["name"] for r in data["replies"]] == ["baseline", "vaf:enhance=1.3", "interventions.json"]
    assert (
        main(["report", "scene:test/3", "What?", "--response", "A dog and a chair.", "--out", str(tmp_path / "b.html")])
        == 0
    )
    said = capsys.readouterr().out
    assert "A dog and a chair." in said
    assert "b.html" in said
    assert data_of((tmp_path / "b.html").read_text())["replies"][0]["labels"].count("invented") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--method", "spaer"), "no method 'spaer'"),
        (("--interventions", "nowhere.json"), "nowhere.json"),
        (("--response", ""), "the response is empty"),
    ],
)
def test_what_cannot_be_is_one_clear_message(given, words, tmp_path, capsys) -> None:
    assert main(["report", "scene:test/3", "What?", *given, "--out", str(tmp_path / "a.html")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()
