"""`ComparisonTable`: the result of `run` and `compare`, as one frame and in several formats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import pandas as pd

from interp.runs.table_formats import flatten, format_table


@final
@dataclass(frozen=True, eq=False)
class ComparisonTable:
    """Methods against a baseline on one benchmark.

    `frame` has one row per method and part (`total` is the whole benchmark), the baseline first:

    - `method`, `settings`, `part`, `n` (samples asked), `failed` (samples without a reply), `unread` (replies without an answer, where
      the benchmark counts invalid replies);
    - for every score its value, `SCORE_low` and `SCORE_high` (95 % interval), and its difference from the baseline's score over the
      samples that both answered: `SCORE_difference`, `SCORE_difference_low`, `SCORE_difference_high`;
    - for every outcome that is compared in pairs, in the rows of the total: `OUTCOME_better` and `OUTCOME_worse`, the number of samples
      in which it is larger or smaller than the baseline's, `OUTCOME_p`, and `OUTCOME_q` (false discovery rate over the methods);
    - in the rows of the total: `seconds` per sample, `tokens` per second, `speed` (tokens per second as a multiple of the baseline's)
      and `memory` (peak, in bytes).

    Args:
        about: what all rows have in common: model, revision, benchmark, reading settings, n.
        frame: the rows.
        headline: the scores of the short forms.
        outcomes: the outcomes that are compared, with their tests.
        runs: the directory of each method.
    """

    about: Mapping[str, Any]
    frame: pd.DataFrame = field(repr=False)
    headline: tuple[str, ...]
    outcomes: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The entries of `about` and the tests, as one line."""
        tests = ", ".join(f"{name} by {test}" for name, test in self.outcomes.items())
        return " · ".join(f"{n} {v}" for n, v in {**self.about, "p of": tests}.items() if v not in (None, ""))

    def __str__(self) -> str:
        """Return the table as text."""
        return self.text()

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        from interp.data.display import card, table_html

        return card(self.title, table_html(*self.cells()))

    def score(self, method: str, name: str, part: str = "total") -> float:
        """Return one score.

        Raises:
            KeyError: no such method, part or score; lists the known ones.
        """
        rows = self.frame[(self.frame["method"] == method) & (self.frame["part"] == part)]
        if rows.empty or name not in self.frame:
            raise KeyError(
                f"no {name!r} of {method!r} in {part!r}; methods: {', '.join(self.frame['method'].unique())}; "
                f"parts: {', '.join(self.frame['part'].unique())}; headline scores: {', '.join(self.headline)}"
            )
        return float(rows[name].iloc[0])

    def flat(self) -> pd.DataFrame:
        """Return the frame with the entries of `about` as columns."""
        return flatten(self.about, self.frame)

    def text(self, *, parts: bool = False) -> str:
        """Return the table as text for a terminal.

        Args:
            parts: whether to include every part of the benchmark.
        """
        return self.render("text", parts=parts)

    def csv(self) -> str:
        """Return every number unrounded as CSV, with the entries of `about` as columns."""
        return self.render("csv")

    def markdown(self, *, parts: bool = False) -> str:
        """Return the table in Markdown, under its title."""
        return self.render("markdown", parts=parts)

    def latex(self, *, parts: bool = False) -> str:
        """Return the table in LaTeX, which needs the package booktabs."""
        return self.render("latex", parts=parts)

    def render(self, how: str, *, parts: bool = False, costs: bool = True) -> str:
        """Return the table as `text`, `csv`, `markdown` or `latex`.

        Args:
            how: the format.
            parts: whether to include every part of the benchmark; `csv` always does.
            costs: whether to include time and memory, which depend on the machine; `csv` always does.

        Raises:
            ValueError: an unknown format.
        """
        if how == "csv":
            return self.flat().to_csv(index=False)
        return format_table(how, self.title, *self.cells(parts=parts, costs=costs))

    def cells(self, *, parts: bool = False, costs: bool = True) -> tuple[list[str], list[list[str]]]:
        """Return column heads and cells of the short forms: headline scores with intervals, differences, tests and costs."""
        frame = self.frame if parts else self.frame[self.frame["part"] == "total"]
        records: Any = frame.to_dict("records")
        cells = [self._row_cells(r, ["settings", "part"] if parts else ["settings"], costs=costs) for r in records]
        return list(cells[0]), [list(c.values()) for c in cells]

    def _row_cells(self, row: Mapping[str, Any], words: Sequence[str], *, costs: bool) -> dict[str, str]:
        cells = {n: str(row[n]) for n in ("method", *words, "n", "failed")}
        if "unread" in row:
            cells["invalid"] = _number(row["unread"], 0)
        for name in (h for h in self.headline if h not in cells):
            cells[name] = _with_interval(row, name)
            cells[f"Δ {name}"] = _with_interval(row, f"{name}_difference", sign=True)
        for name in self.outcomes:
            cells[f"p {name}"] = _number(row[f"{name}_p"], 4)
            cells[f"q {name}"] = _number(row[f"{name}_q"], 4)
        if costs:
            cells["s/sample"] = _number(row["seconds"], 3)
            cells["tokens/s ×"] = _number(row["speed"], 2)
            cells["peak MiB"] = _number(row["memory"] / 2**20, 0)
        return cells


def _with_interval(row: Mapping[str, Any], name: str, *, sign: bool = False) -> str:
    value, low, high = (row[n] for n in (name, f"{name}_low", f"{name}_high"))
    if _missing(value):
        return "–"
    digits = 3 if max(abs(value), abs(high)) < 10 else 1
    shown = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return shown if _missing(low) else f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def _number(value: Any, digits: int) -> str:
    return "–" if _missing(value) else f"{value:.{digits}f}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def build_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame; columns are in the order in which the rows first name them."""
    names = list(dict.fromkeys(n for r in rows for n in r))
    return pd.DataFrame([[r.get(n) for n in names] for r in rows], columns=names)
