"""The documentation names only what exists."""

import importlib
import re
from pathlib import Path

import pytest

import interp

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)])
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def exists(dotted: str) -> bool:
    """Say whether a dotted name can be reached: modules first, then attributes."""
    found, *rest = dotted.split(".")
    thing = importlib.import_module(found)
    for part in rest:
        path = f"{getattr(thing, '__name__', '')}.{part}"
        try:
            thing = getattr(thing, part)
        except AttributeError:
            try:
                thing = importlib.import_module(path)
            except ModuleNotFoundError:
                return False
    return True


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name)
def test_every_name_of_the_package_in_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])interp(?:\.[A-Za-z]\w*)+", text))
    to_write = {path.replace("/", ".") for path in re.findall(r"^# (interp/\S+)\.py$", text, re.MULTILINE)}
    assert not sorted(n for n in named - to_write if not exists(n))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "extending.md"], ids=name)  # it names files to write
def test_every_file_of_the_package_in_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w./-])interp/[\w/]+\.py\b", page.read_text(encoding="utf-8")))
    assert not sorted(n for n in named if not (ROOT / n).exists())


def test_every_verb_of_the_concepts_is_public() -> None:
    section = CONCEPTS.split("\n## Verbs")[1].split("\n## ")[0]
    verbs = set(re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE))
    assert verbs - {"model.prepare"} <= set(interp.__all__)
    assert hasattr(interp.Model, "prepare")


def test_every_new_name_of_the_changelog_exists() -> None:
    section = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("### Old and new names")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+) \| (`.+) \|$", section, re.MULTILINE)
    new = [n for _, right in rows for n in re.findall(r"`([a-z]\w*\.[\w.]+)`", re.sub(r"\([^)]*\)", "", right))]
    assert len(new) > 50
    assert not [n for n in new if not exists(f"interp.{n}")]


def test_the_page_of_models_explains_every_check_in_its_own_words() -> None:
    from interp.checks.model import CHECKS

    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", page, re.MULTILINE))
    assert explained == {check: (function.__doc__ or "").split("\n")[0] for check, function in CHECKS.items()}
