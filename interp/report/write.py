"""Pages to look at: the demo's study of a model, and a question asked under several changes, token by token."""

import json
from pathlib import Path
from typing import Any

from interp.data.storage import write_atomically, write_text
from interp.report.comparison import Comparison, compare
from interp.report.page import REPLY, page
from interp.report.pictures import pictures
from interp.report.reading import Reading, Variant
from interp.report.study import Study, study, units
from interp.report.summary import Table, summary, tables
from interp.report.token_page import token_page

__all__ = [
    "Comparison",
    "Reading",
    "Study",
    "Table",
    "Variant",
    "compare",
    "study",
    "summary",
    "tables",
    "units",
    "write",
    "write_comparison",
]


def write_comparison(found: Comparison, out: Path, *, command: str) -> None:
    """Write the page about a question under several changes to one file, whole or not at all.

    Args:
        found: what is shown.
        out: the file; its folder is made when it is not there.
        command: the command that made it.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(out, token_page(found, command=command))


def write(found: Study, out: Path, *, command: str, seconds: float) -> dict[str, Any]:
    """Write `index.html`, the page about one reply, `summary.json` and the pictures into a folder, and return the summary.

    Args:
        found: the study.
        out: the folder; made when it is not there.
        command: the command that made it.
        seconds: how long the study took.

    Raises:
        OSError: the folder cannot be written.
    """
    facts = summary(found, command, seconds)
    drawn = pictures(found)
    for picture in drawn.values():
        content = picture.png
        write_atomically(out / f"{picture.name}.png", lambda name, content=content: Path(name).write_bytes(content))
    write_text(out / "summary.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "index.html", page(found, drawn, facts))
    write_text(out / REPLY, token_page(found.compared, command=command))
    return facts
