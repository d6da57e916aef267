"""The folders, the import contracts and the documentation tell one story."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
FOLDERS = sorted(p.parent for p in (ROOT / "interp").glob("*/__init__.py"))


def contract_rows() -> list[set[str]]:
    (layers,) = (c["layers"] for c in CONTRACTS if c["type"] == "layers")
    return [set(re.split(r"\s*[|:]\s*", row)) for row in layers]


def table_rows() -> list[tuple[list[str], str]]:
    """Return the folders and the description of every row in the table of CONTRIBUTING.md."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = page.split("<!-- map -->")[1].split("<!-- end of the map -->")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE)
    return [(re.findall(r"`(\w+)`", names), about) for names, about in rows]


def test_the_table_has_the_rows_of_the_import_contract() -> None:
    assert [set(names) for names, _ in table_rows()] == contract_rows()


def test_the_contract_has_a_row_for_every_folder_and_module() -> None:
    modules = {p.stem for p in (ROOT / "interp").glob("*.py")} - {"__init__"} | {p.name for p in FOLDERS}
    assert set().union(*contract_rows()) == modules


def test_every_folder_of_the_table_is_described() -> None:
    # One phrase per folder; a row of several modules of one kind ends in what they share.
    for names, about in table_rows():
        assert len(re.split(r" · ", about)) == len(names), names


def test_the_page_of_concepts_shows_the_same_table() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    (include,) = re.findall(r"^```\{include\} \.\./CONTRIBUTING\.md\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert ":start-after: <!-- map -->" in include
    assert ":end-before: <!-- end of the map -->" in include


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_base_class_is_in_base(folder: Path) -> None:
    """Nothing is defined in `__init__`: it lists the modules of its folder and passes names on."""
    defined = re.findall(r"^(?:class|def) (\w+)", (folder / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert not [n for n in defined if n not in {"__getattr__", "__dir__"}]
