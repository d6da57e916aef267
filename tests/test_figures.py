"""Every published figure is drawn from its saved data, and says how to make them when they are missing."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FIGURES = Path(__file__).resolve().parents[1] / "figures"
SCRIPTS = sorted(p for p in FIGURES.glob("*.py") if "__main__" in p.read_text(encoding="utf-8"))


def run(script: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [script.name, *arguments])
    monkeypatch.syspath_prepend(str(FIGURES))
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_figure_is_drawn_from_the_data_that_are_kept(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, monkeypatch, "--out", str(tmp_path))
    drawn, kept = (Image.open(f / f"{script.stem}.png").convert("L") for f in (tmp_path, FIGURES))
    assert drawn.size == kept.size, "the committed picture is not the one that the script draws: make figures"
    ink = np.asarray(drawn) < 250
    assert 0.01 < ink.mean() < 0.98
    assert (tmp_path / f"{script.stem}.pdf").stat().st_size > 1000
    made = json.loads((FIGURES / "data" / f"{script.stem}.json").read_text(encoding="utf-8"))
    assert made["command"].startswith(f"python figures/{script.name} --recompute")


def test_missing_data_say_which_command_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FIGURES))
    import recipe

    monkeypatch.setattr(recipe, "DATA", tmp_path)
    with pytest.raises(
        SystemExit, match=r"missing from figures/data; make it with: python figures/\w+\.py --recompute"
    ):
        run(FIGURES / "spear_fig5.py", monkeypatch)


def test_a_stopped_recomputation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FIGURES))
    import matplotlib.pyplot as plt
    import pandas as pd
    import recipe

    monkeypatch.setattr(recipe, "DATA", tmp_path / "data")
    monkeypatch.setattr(recipe, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(sys, "argv", ["x.py", "--recompute", "--out", str(tmp_path), "--n", "2"])
    measured: list[str] = []

    def measure(part: str, *, fails: bool = False) -> recipe.Part:
        def make(setting: recipe.Setting) -> pd.DataFrame:
            measured.append(part)
            if fails:
                raise KeyboardInterrupt
            return pd.DataFrame({"value": [setting.n]})

        return recipe.Part(pd.DataFrame, make)

    def draw(first: pd.DataFrame, second: pd.DataFrame) -> plt.Figure:
        figure, ax = plt.subplots()
        ax.plot([*first["value"], *second["value"]])
        return figure

    with pytest.raises(KeyboardInterrupt):
        recipe.recipe("x", {"first": measure("first"), "second": measure("second", fails=True)}, draw, about="")
    assert not (tmp_path / "data").exists()
    recipe.recipe("x", {"first": measure("first"), "second": measure("second")}, draw, about="")
    assert measured == ["first", "second", "second"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["x.first.csv", "x.json", "x.second.csv"]
