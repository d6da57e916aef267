"""The gallery shows every figure once, with the command that made its data.

The text of a figure is a section of docs/figures.md, or a file of its own beside the script, figures/<name>.md, which the
documentation appends to the gallery.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PICTURES = sorted((ROOT / "figures").glob("*.png"))
OWN = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "figures").glob("*.md")))
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8") + "\n" + OWN.replace("](", "](../figures/")
SHOWN = re.compile(r"!\[([^\]]*)\]\(\.\./figures/([^)]+)\)")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_a_picture_is_described_and_told_how_it_was_made(picture) -> None:
    sections = [s for s in re.split(r"^##+ ", PAGE, flags=re.MULTILINE) if f"figures/{picture.name})" in s]
    assert len(sections) == 1, f"the gallery shows {picture.name} {len(sections)} times instead of once"
    ((alternative, _),) = SHOWN.findall(sections[0])
    assert len(alternative) > 20
    made = json.loads((ROOT / "figures" / "data" / f"{picture.stem}.json").read_text(encoding="utf-8"))
    assert f"\n`{made['command']}`\n" in sections[0], f"the command of {picture.name} is {made['command']}"


def test_no_picture_is_missing() -> None:
    assert {name for _, name in SHOWN.findall(PAGE)} == {p.name for p in PICTURES}
