"""The records of a run: one line of JSON each, there and back."""

import math

import pytest

from interp.bench.base import Sample
from interp.data.prompt import Reply
from interp.runs.row import Cost, Row, build_failed_row, build_row

SAMPLE = Sample("q1", "What?", "cat.jpg", {"answer": "yes", "objects": ["cat"]}, "popular", "cat.jpg")


def test_a_row_survives_its_line(model_of) -> None:
    prompt = model_of("llama").prepare(None, "What?")
    reply = Reply("a cat", ("a", " cat"), (3, 4), (-0.5, -math.inf), "end", prompt)
    row = build_row(SAMPLE, reply)
    assert row.sample == SAMPLE
    assert (row.reply, row.ids, row.tokens, row.stop, row.error) == ("a cat", (3, 4), ("a", " cat"), "end", "")
    assert row.logprobs == (-0.5, None)  # JSON has no infinity
    assert row.prompt == len(prompt)
    assert Row.from_line(row.line()) == row
    assert row.line() == Row.from_line(row.line()).line()
    assert row.line().count(b"\n") == 1


def test_a_failed_sample_is_a_row_with_its_error() -> None:
    row = build_failed_row(SAMPLE, FileNotFoundError("no image cat.jpg"))
    assert (row.error, row.reply, row.ids) == ("FileNotFoundError: no image cat.jpg", "", ())
    assert Row.from_line(row.line()) == row


def test_a_cost_survives_its_line() -> None:
    cost = Cost(3, 2, 17, 0.25, 4096)
    assert Cost.from_line(cost.line()) == cost


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'{"id": "q1", "question": "Wh', b'{"batch": 1}'])
def test_other_lines_are_refused(line) -> None:
    for kind in (Row, Cost):
        with pytest.raises(ValueError, match=r"not a (row|cost record) of a run|Unterminated"):
            kind.from_line(line)
