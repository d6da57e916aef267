"""Tables in every format; nothing in a cell breaks the format."""

import pandas as pd
import pytest

from interp.runs.table_formats import TABLE_FORMATS, flatten, format_table

HEADS, ROWS = ("a|b", "Δ x_1"), [("50 %", "–"), ("x & y", "[bold]z")]


def test_text_keeps_every_cell_as_it_is_written() -> None:
    lines = format_table("text", "a title", HEADS, ROWS).splitlines()
    assert lines[0] == "a title"
    assert "[bold]z" in lines[-2]


def test_markdown_has_one_bar_for_every_cell() -> None:
    lines = format_table("markdown", "a title", HEADS, ROWS).splitlines()
    assert {line.count("|") for line in lines[2:]} == {3}
    assert "a&#124;b" in lines[2]


def test_latex_escapes_what_is_special() -> None:
    text = format_table("latex", "100 % & more", HEADS, ROWS)
    assert r"\caption{100 \% \& more}" in text
    assert r"$\Delta$ x\_1" in text
    assert r"x \& y & [bold]z \\" in text
    assert r"50 \% & -- \\" in text


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=f"one of {', '.join(TABLE_FORMATS)}, not 'pdf'"):
        format_table("pdf", "", HEADS, ROWS)


def test_shared_entries_become_columns_unless_the_frame_has_them() -> None:
    frame = flatten({"model": "tiny", "n": 3}, pd.DataFrame({"n": [1, 2]}, index=[5, 6]))
    assert frame.to_dict("list") == {"model": ["tiny", "tiny"], "n": [1, 2]}
