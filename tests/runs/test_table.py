"""The comparison table and its formats."""

import csv
import io
from dataclasses import replace

import pytest

from interp.runs.comparison import compare


def test_ways_to_write_a_table(two, letters) -> None:
    table = compare(two, benchmark=letters(n=12))
    text = str(table)
    assert text.startswith("model LlavaForConditionalGeneration · revision ")
    assert "letter=e" in text.splitlines()[0]
    assert "enhance=4.0" in text
    assert "left" not in text
    assert "left" in table.text(parts=True)
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [r["part"] for r in rows] == ["left", "right", "total"] * 2
    assert float(rows[-1]["length_low"]) == table.score("spear", "length_low")
    marked = table.markdown().splitlines()
    assert len({line.count("|") for line in marked[2:]}) == 1
    latex = table.latex()
    assert r"\begin{tabular}{" + "l" * (marked[2].count("|") - 1) + "}" in latex
    assert r"$\Delta$ held" in latex
    assert "_" not in latex.replace(r"\_", "")
    costs = {"s/sample", "tokens/s ×", "peak MiB"}
    assert costs == set(table.cells()[0]) - set(table.cells(costs=False)[0])
    assert "tokens/s" not in table.render("markdown", costs=False)
    page = table._repr_html_()
    assert page.count("<tr>") == 3
    assert "&lt;b&gt;" in replace(table, about={"benchmark": "<b>"})._repr_html_()
    with pytest.raises(ValueError, match="the format of a table is one of text, csv, markdown, latex, not 'pdf'"):
        table.render("pdf")
    with pytest.raises(
        KeyError, match="no 'held' of 'vaf' in 'total'; methods: greedy, spear; parts: left, right, total"
    ):
        table.score("vaf", "held")
