"""How an analysis runs on a capture: which rows it gets, and what it refuses."""

import pytest
import torch

from interp.analysis.base import View, on_capture, select_rows
from interp.analysis.budget import (
    Budget,
)
from interp.data.layout import Layout
from interp.data.tokens import Segment
from interp.passes.capture import capture


def test_rows_that_were_not_captured_are_asked_for(model_of):
    model = model_of("llama")
    prompt = model.prepare(text="What is this?").with_response("It")
    kept = capture(model, prompt, queries=[0, 1])
    with pytest.raises(
        ValueError,
        match=r"query rows \[\d+, .*\] are needed \(EMITTING\) but were not captured; capture\(..., queries=...\)",
    ):
        on_capture(Budget(), kept)
    with pytest.raises(ValueError, match=r"the query rows IMAGE take no token of this conversation"):
        on_capture(Budget(queries=Segment.IMAGE), kept)


def test_only_arrays_with_query_rows_are_cut():
    values = {"pattern": torch.rand(2, 4, 4), "resid_post": torch.rand(4, 8)}
    cut = select_rows(values, [3, 1])
    assert torch.equal(cut["pattern"], values["pattern"][:, [3, 1]])
    assert cut["resid_post"] is values["resid_post"]
    assert select_rows(values, None)["pattern"] is values["pattern"]


def test_a_view_keeps_the_rows_of_a_selection():
    layout = Layout(torch.tensor([Segment.USER.value] * 2 + [Segment.RESPONSE.value] * 2))
    view = View(layout, tuple("abcd"), (1, 2, 3, 4), queries=(1, 2, 3))
    rows, restricted = view.for_rows(Segment.RESPONSE)
    assert (rows, restricted.queries) == ([1, 2], (2, 3))
    assert view.for_rows((1, 2, 3))[0] is None
    with pytest.raises(ValueError, match=r"query rows \[0\] are needed"):
        view.for_rows(Segment.USER)
