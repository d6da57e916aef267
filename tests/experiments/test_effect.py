import pytest
import torch
from torch.testing import assert_close

import interp
from interp import Segment
from interp.experiments.effect import Answers, Ends, Length, Logit, Loss, Probability, effect
from interp.interventions.attention import MaskAttention
from interp.interventions.values import ZeroValues
from interp.taps.audit import NothingChanged

CUT = MaskAttention(0, queries=Segment.USER)


def test_an_effect_is_the_difference_of_two_passes(planted, prompt):
    found = effect(planted.model, prompt, CUT, of=Probability("g"))
    free, cut = (
        interp.capture(planted.model, prompt, want={"logits"}, interventions=c).logits[-1].softmax(-1)
        for c in ((), (CUT,))
    )
    after = planted.model.tokenizer.convert_tokens_to_ids("g")
    assert_close(torch.tensor([found.without, found.under]), torch.stack([free[after], cut[after]]))
    assert found.without > 0.9
    assert found.under < 0.1
    assert found.change == found.under - found.without
    assert found.audit[0].calls == planted.model.layers
    assert "→" in str(found)


def test_every_quantity_follows_the_planted_behaviour(planted, prompt):
    answered = prompt.with_response("ghi")
    assert effect(planted.model, prompt, CUT, of=Logit("g")).change < 0
    assert effect(planted.model, answered, CUT, of=Loss()).change > 1
    assert effect(planted.model, prompt, CUT, of=Answers("ghij", max_new_tokens=4)).change == -1
    assert effect(planted.model, prompt, CUT, of=Length(max_new_tokens=5)).without == 5
    assert effect(planted.model, prompt, CUT, of=Ends(max_new_tokens=5)).without == 0


def test_a_change_of_nothing_has_no_effect_and_warns(planted, prompt):
    with pytest.warns(NothingChanged):
        assert effect(planted.model, prompt, ZeroValues(0), of=Probability("g")).change == 0


def test_quantities_say_what_they_cannot_follow(planted, prompt):
    with pytest.raises(ValueError, match="is not one token of planted"):
        effect(planted.model, prompt, CUT, of=Probability("gh"))
    with pytest.raises(ValueError, match=r"this prompt has none; prompt.with_response"):
        effect(planted.model, prompt, CUT, of=Loss())
