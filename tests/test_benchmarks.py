"""The scripts that measure: how they put figures together and write them down. Nothing is timed here."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SHARED = {"timing", "sizes"}
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in SHARED)


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts find what they share, as they do when they are run."""
    monkeypatch.syspath_prepend(str(FOLDER))


def timing() -> Any:
    import timing

    return timing


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_how_it_is_used(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert left.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sense", "ratio", "met"), [("at most", 0.5, True), ("at least", 2.0, False), ("at least", 8.0, True)]
)
def test_a_claim_is_the_median_of_paired_ratios(sense, ratio, met):
    t = timing()
    aim = 0.5 if sense == "at most" else 4.0
    claim = t.Claim("ours", "theirs", aim, sense)
    base, ours = [2.0, 40.0, 6.0], [2.0 / ratio, 40.0 / ratio, 1.0]  # one round is off; the median does not mind
    if sense == "at most":
        ours = [2.0 * ratio, 40.0 * ratio, 60.0]
    found = t.compared(claim, base, ours, size="mid")
    assert found.ratio == ratio
    assert found.met is met
    assert ("MISSED" in str(found)) is not met
    assert (found.base, found.rounds) == (6.0, 3)


def test_works_take_turns_and_the_first_round_is_left_out():
    order: list[str] = []
    taken = timing().rounds_of([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert [len(t) for t in taken] == [3, 3]


def test_new_figures_take_the_place_of_the_old_ones_of_the_same_claim_and_size(tmp_path, capsys):
    t = timing()
    claim = t.Claim("ours", "theirs", 1.0)
    t.record([t.stated(claim, [1.5], size="mid"), t.stated(claim, [3.0], size="embedded")], "one", tmp_path)
    t.record([t.stated(claim, [0.5], size="mid")], "one", tmp_path)
    held = json.loads((tmp_path / "one.json").read_text())
    assert {(e["size"], e["ratio"]) for e in held} == {("embedded", 3.0), ("mid", 0.5)}
    assert "MISSED" in capsys.readouterr().out


def rendered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "render.py",
            "--results",
            str(folder),
            "--account",
            str(folder / "account.md"),
            "--out",
            str(folder / "page.md"),
        ],
    )
    runpy.run_path(str(FOLDER / "render.py"), run_name="__main__")
    return (folder / "page.md").read_text()


def test_the_page_is_written_from_the_figures(tmp_path, monkeypatch):
    t = timing()
    slow, fast = t.Claim("ours", "theirs", 1.05), t.Claim("quick", "slow", 1000.0, "at least")
    t.record([t.stated(slow, [1.25, 1.25, 1.25], size="mid", note="why")], "cost", tmp_path)
    t.record([t.stated(fast, [2345.6], size="llava7b")], "speed", tmp_path)
    (tmp_path / "account.md").write_text("## Where the time goes\n")
    curve = {"along": "tokens", "verb": "forward", "sizes": [1, 2], "seconds": [1, 4], "exponent": 2.0}
    (tmp_path / "growth.json").write_text(json.dumps({"machine": "this one", "rounds": 1, "found": [curve]}))
    page = rendered(tmp_path, monkeypatch)
    assert "| ours | theirs | mid | ≤ 1.05 | 1.25 [1.25, 1.25] | **no** |" in page
    assert "| quick | slow | llava7b | ≥ 1,000 × | 2,346 × [2,346, 2,346] | yes |" in page
    assert "- ours (mid): why." in page
    assert "| forward | 2.00 |" in page
    assert "Not measured" in page  # the llava7b entry was not taken on an accelerator
    assert page.rstrip().endswith("## Where the time goes")
