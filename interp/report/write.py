"""`write_comparison` and `write_study`: the pages as files, each written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from interp.data.storage import write_atomically, write_text
from interp.report.collect import ReplyComparison, Study
from interp.report.reply_page import render_reply
from interp.report.study_figures import draw_figures
from interp.report.study_page import REPLY_FILE, render_study
from interp.report.study_tables import summarise_study


def write_comparison(comparison: ReplyComparison, out: str | Path, *, command: str) -> None:
    """Write the page about one question under several variants to one file.

    Args:
        comparison: the content of the page.
        out: the file; its folder is created where it does not exist.
        command: the command that made it.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(out, render_reply(comparison, command=command))


def write_study(study: Study, out: Path, *, command: str, seconds: float) -> dict[str, Any]:
    """Write `index.html`, the page about one reply, `summary.json` and the figures into a folder, and return the summary.

    Args:
        study: the content of the pages.
        out: the folder; created where it does not exist.
        command: the command that made it.
        seconds: the duration of the study.

    Raises:
        OSError: the folder cannot be written.
    """
    summary = summarise_study(study, command, seconds)
    figures = draw_figures(study)
    for figure in figures.values():
        content = figure.png
        write_atomically(out / f"{figure.name}.png", lambda name, content=content: Path(name).write_bytes(content))
    write_text(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "index.html", render_study(study, figures, summary))
    write_text(out / REPLY_FILE, render_reply(study.comparison, command=command))
    return summary
