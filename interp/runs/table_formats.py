"""Tables as text, Markdown and LaTeX, and frames with shared columns for CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

TABLE_FORMATS = ("text", "csv", "markdown", "latex")
"""The formats of a table."""
_LATEX_SIGNS = {
    **{c: f"\\{c}" for c in "&%_#${}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
}
"""The LaTeX forms of characters that are special there or have no glyph."""


def format_table(how: str, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as `_text`, `_markdown` or `_latex`.

    Raises:
        ValueError: an unknown format.
    """
    known = {"text": _text, "markdown": _markdown, "latex": _latex}
    if how not in known:
        raise ValueError(f"the format of a table is one of {', '.join(TABLE_FORMATS)}, not {how!r}")
    return known[how](title, heads, rows)


def _text(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(header_style="bold")
    for head in heads:
        drawn.add_column(Text(head), no_wrap=True)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(width=1000, color_system=None, force_terminal=False)
    with console.capture() as said:
        console.print(drawn)
    return "\n".join([title, *(line.rstrip() for line in said.get().splitlines()), ""])


def _markdown(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, under its title."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([title, "", *(f"| {' | '.join(c.replace('|', '&#124;') for c in line)} |" for line in lines), ""])


def _latex(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in LaTeX, which needs the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (heads, *rows)]
    begin = [
        r"\begin{table}",
        rf"\caption{{{_escaped(title)}}}",
        rf"\begin{{tabular}}{{{'l' * len(heads)}}}",
        r"\toprule",
    ]
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*begin, lines[0], r"\midrule", *lines[1:], *end])


def flatten(about: Mapping[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with shared entries as columns."""
    shared = pd.DataFrame({n: [v] * len(frame) for n, v in about.items() if n not in frame})
    return pd.concat([shared, frame.reset_index(drop=True)], axis=1)


def _escaped(words: str) -> str:
    return "".join(_LATEX_SIGNS.get(c, c) for c in words)
