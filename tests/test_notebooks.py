"""What every notebook keeps to; `make notebooks` executes them."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
MOST_CELLS = 15
DEFINING = "07_your_own_method"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def test_there_is_one_a_paper_and_three_more() -> None:
    assert [p.stem[:2] for p in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


def test_a_notebook_is_short_and_tells_before_it_shows(notebook) -> None:
    kinds = [c["cell_type"] for c in cells(notebook)]
    assert len(kinds) <= MOST_CELLS
    assert kinds == (["markdown", "code"] * len(kinds))[: len(kinds)]
    assert "".join(cells(notebook)[0]["source"]).startswith("# ")
    assert all("".join(c["source"]).strip() for c in cells(notebook))


def test_nothing_that_was_shown_is_kept(notebook) -> None:
    code = [c for c in cells(notebook) if c["cell_type"] == "code"]
    assert [(c["outputs"], c["execution_count"]) for c in code] == [([], None)] * len(code)


def test_only_the_notebook_about_it_defines_anything(notebook) -> None:
    trees = [ast.parse("".join(c["source"])) for c in cells(notebook) if c["cell_type"] == "code"]
    defined = [type(n).__name__ for t in trees for n in ast.walk(t) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assert bool(defined) == (notebook.stem == DEFINING)
    assert not any(isinstance(n, ast.Lambda) for t in trees for n in ast.walk(t))
