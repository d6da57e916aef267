import pytest
import torch
from torch.testing import assert_close

import interp
from interp import Segment
from interp.data.heads import Heads
from interp.families.base import family
from interp.interventions.heads import AblateHeads, ScaleHeads, ScaleQueries
from interp.methods.sgrs import Sgrs

SOME = Heads(((0, 1), (1, 3)))
EXAMPLES = {
    "ablate": lambda model: (AblateHeads(SOME), None),
    "ablate to the mean": lambda model: (AblateHeads(SOME, mode="mean", at="response"), None),
    "ablate by another": lambda model: (AblateHeads(SOME, mode="resample", seed=3), None),
    "ablate at the step": lambda model: (AblateHeads(SOME, at="step"), None),
    "heads": lambda model: (ScaleHeads(SOME, 3.0), ScaleHeads(SOME, 1.0)),
    "queries": lambda model: (
        ScaleQueries(((2.0,) * model.heads,) * model.layers),
        ScaleQueries(((1.0,) * model.heads,) * model.layers),
    ),
}
"""A strong and a neutral setting of every kind, for `test_every_kind`; a neutral one often takes tokens that no prompt has."""


@pytest.fixture(scope="module")
def model():
    module, processor = family("qwen2").tiny()
    return interp.load(module, processor=processor)


@pytest.fixture(scope="module")
def prompt(model):
    return model.prepare(text="What is it?", response="a red chair")


def z(model, prompt, *interventions):
    return interp.capture(model, prompt, want={"z"}, interventions=interventions).z


ONE = Heads(((0, 2),))


def test_zero_takes_away_one_head_and_no_other(model, prompt):
    before, after = z(model, prompt), z(model, prompt, AblateHeads(ONE))
    assert (after[0, :, 2] == 0).all()
    others = [0, 1, 3]
    assert_close(after[0, :, others], before[0, :, others], rtol=0, atol=0)
    assert (after[1] != before[1]).any()


def test_the_mean_is_that_of_the_prompt(model, prompt):
    before, after = z(model, prompt), z(model, prompt, AblateHeads(ONE, "mean"))
    asked = ~prompt.layout.mask(Segment.RESPONSE)
    expected = before[0, asked, 2].mean(0).expand_as(after[0, :, 2])
    assert_close(after[0, :, 2], expected)


def test_resampling_draws_rows_of_the_prompt_and_repeats_with_its_seed(model, prompt):
    before = z(model, prompt)
    asked = before[0, ~prompt.layout.mask(Segment.RESPONSE), 2]
    first, again, other = (z(model, prompt, AblateHeads(ONE, "resample", seed=s))[0, :, 2] for s in (0, 0, 1))
    assert_close(first, again, rtol=0, atol=0)
    assert (first != other).any()
    assert all((row == asked).all(-1).any() for row in first)


@pytest.mark.parametrize(("at", "rows"), [("response", interp.EMITTING), ("last", interp.LAST)])
def test_where_a_head_is_taken_away(model, prompt, at, rows):
    before, after = z(model, prompt), z(model, prompt, AblateHeads(ONE, at=at))
    chosen = prompt.layout.mask(rows)
    assert (after[0, chosen, 2] == 0).all()
    assert_close(after[0, ~chosen, 2], before[0, ~chosen, 2], rtol=0, atol=0)


def test_scaling_multiplies(model, prompt):
    assert_close(z(model, prompt, ScaleHeads(ONE, 3.0))[0, :, 2], 3 * z(model, prompt)[0, :, 2])


def test_a_method_that_only_chooses_tokens_is_refused_in_a_pass(model, prompt):
    with pytest.raises(ValueError, match="acts where a token is chosen, and one pass chooses none"):
        interp.capture(model, prompt, interventions=[Sgrs()])


def test_a_head_that_is_not_there_is_named(model, prompt):
    with pytest.raises(ValueError, match="99"):
        z(model, prompt, AblateHeads(Heads(((0, 99),))))
    assert torch.is_tensor(z(model, prompt))
