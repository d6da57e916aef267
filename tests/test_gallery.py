"""The gallery shows every figure once, with the command that made its data."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PICTURES = sorted((ROOT / "figures").glob("*.png"))
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"!\[([^\]]*)\]\(\.\./figures/([^)]+)\)")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_a_picture_is_described_and_told_how_it_was_made(picture) -> None:
    sections = [s for s in re.split(r"^##+ ", PAGE, flags=re.MULTILINE) if f"figures/{picture.name})" in s]
    assert len(sections) == 1, f"docs/figures.md shows {picture.name} {len(sections)} times; it belongs there once"
    ((alternative, _),) = SHOWN.findall(sections[0])
    assert len(alternative) > 20
    made = json.loads((ROOT / "figures" / "data" / f"{picture.stem}.json").read_text(encoding="utf-8"))
    assert f"\n`{made['command']}`\n" in sections[0], f"the command of {picture.name} is {made['command']}"


def test_no_picture_is_missing() -> None:
    assert {name for _, name in SHOWN.findall(PAGE)} == {p.name for p in PICTURES}
