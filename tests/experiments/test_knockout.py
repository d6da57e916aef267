"""Knockout and patching, on a planted model whose flow of information is known."""

import pytest
from torch.testing import assert_close

from interp import EVERY, LAST, Segment
from interp.experiments.effect import Probability
from interp.experiments.knockout import attention_knockout, patch
from interp.taps.audit import NothingChanged


def test_knockout_breaks_where_the_sink_is_and_not_before(planted, prompt):
    found = attention_knockout(
        planted.model,
        prompt,
        of=Probability("g"),
        flows=(("sink → rows", Segment.USER, 0), ("others → last", LAST, Segment.USER - (0,) - LAST)),
        window=1,
        progress=False,
    )
    assert found.effect[0, 0] == pytest.approx(0, abs=1e-3)  # layer 0 has no sink heads
    assert (found.effect[0, 1:] < -0.5).all()
    assert found.effect[1].abs().max() < 1e-2
    assert found.frame().query("layer == 1")["candidate"].tolist() == ["sink → rows", "others → last"]
    with pytest.raises(ValueError, match="selects no token of this prompt"):
        attention_knockout(planted.model, prompt, of=Probability("g"), progress=False)
    with pytest.raises(ValueError, match="at least one layer, got 0"):
        attention_knockout(planted.model, prompt, of=Probability("g"), window=0, progress=False)


def test_patching_the_last_token_brings_the_other_answer(planted, prompt):
    other = planted.model.prepare(text="cafebabedeadbeea")
    at = (("last", LAST), ("first letters", range(1, 6)), ("everything", EVERY))
    with pytest.warns(NothingChanged):
        found = patch(planted.model, prompt, other, of=Probability("b"), at=at, progress=False)
    assert found.without < 0.1
    assert (found.under[0] > 0.9).all()
    assert (found.under[1] < 0.1).all()
    assert_close(found.under[2], found.under[0], rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="same length, got 17 and 5 tokens"):
        patch(planted.model, prompt, planted.model.prepare(text="cafe"), of=Probability("b"), progress=False)
