import pytest
import torch
from torch.testing import assert_close

import interp
from interp import EMITTING, LAST, Segment
from interp.analysis.budget import Budget
from interp.families.base import family
from interp.interventions.attention import ScaleScores
from interp.taps.audit import NothingChanged


@pytest.fixture(scope="module")
def model():
    module, processor = family("llava").tiny()
    return interp.load(module, processor=processor)


@pytest.fixture(scope="module")
def prompt(model):
    return model.prepare(torch.zeros(40, 60, 3).numpy(), "What is it?", response="it is")


@pytest.mark.parametrize("edited", [interp.EVERY, Segment.USER, EMITTING, LAST], ids=str)
@pytest.mark.parametrize("read", [interp.EVERY, EMITTING, LAST], ids=str)
def test_an_edit_of_other_rows_does_not_shift_the_rows_that_are_read(model, prompt, edited, read):
    neutral = ScaleScores(Segment.IMAGE, 1.0, queries=edited, layers=(1,))
    options = {"want": {"pattern"}, "grad": {"pattern"}, "target": 0, "queries": read}
    expected = interp.capture(model, prompt, **options)
    with pytest.warns(NothingChanged):
        got = interp.capture(model, prompt, interventions=[neutral], **options)
    assert got.queries == expected.queries
    assert_close(got.pattern, expected.pattern, rtol=0, atol=1e-6)
    assert_close(got.pattern_grad, expected.pattern_grad, rtol=1e-4, atol=1e-5)


def test_measure_averages_its_own_rows_under_an_edit_of_others(model, prompt):
    with pytest.warns(NothingChanged):
        edited = interp.measure(model, prompt, Budget(), interventions=[ScaleScores(Segment.IMAGE, 1.0, layers=(1,))])
    assert_close(edited.share, interp.measure(model, prompt, Budget()).share, rtol=0, atol=1e-6)
