"""The demo's report: a study of a model on scenes it never saw, and the page, the pictures and the numbers it is written to."""

import json
from pathlib import Path
from typing import Any

from interp.report.page import page
from interp.report.pictures import pictures
from interp.report.study import Study, study, units
from interp.report.summary import Table, summary, tables
from interp.storage import write_atomically, write_text

__all__ = ["Study", "Table", "study", "summary", "tables", "units", "write"]


def write(found: Study, out: Path, *, command: str, seconds: float) -> dict[str, Any]:
    """Write `index.html`, `summary.json` and the pictures into a folder, and return the summary.

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
    return facts
