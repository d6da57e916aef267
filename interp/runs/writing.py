"""Tables on paper: as text, CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

WAYS = ("text", "csv", "markdown", "latex")
"""How a table can be written."""
SIGNS = {
    **{c: f"\\{c}" for c in "&%_#${}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
}
"""How LaTeX writes what it has another use for, or no letter."""


def written(how: str, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return cells as `text`, `markdown` or `latex`.

    Raises:
        ValueError: another way.
    """
    known = {"text": text, "markdown": markdown, "latex": latex}
    if how not in known:
        raise ValueError(f"a table is written as {', '.join(WAYS)}, not {how!r}")
    return known[how](title, heads, rows)


def text(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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


def markdown(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, under a line that says what all rows share."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([title, "", *(f"| {' | '.join(c.replace('|', '&#124;') for c in line)} |" for line in lines), ""])


def latex(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in LaTeX; needs the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (heads, *rows)]
    begin = [
        r"\begin{table}",
        rf"\caption{{{_escaped(title)}}}",
        rf"\begin{{tabular}}{{{'l' * len(heads)}}}",
        r"\toprule",
    ]
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join([*begin, lines[0], r"\midrule", *lines[1:], *end])


def flat(about: Mapping[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with what all rows share in columns of its own."""
    shared = pd.DataFrame({n: [v] * len(frame) for n, v in about.items() if n not in frame})
    return pd.concat([shared, frame.reset_index(drop=True)], axis=1)


def _escaped(words: str) -> str:
    return "".join(SIGNS.get(c, c) for c in words)
