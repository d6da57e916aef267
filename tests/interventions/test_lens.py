import pytest
import torch

import interp
from interp.data.tokens import EMITTING
from interp.interventions.lens import CorrectLogits


@pytest.fixture
def answered(model_of):
    model = model_of("qwen2")
    return model, model.prepare(text="What is it?", response="a red chair")


def run(answered, *interventions, want=("logits", "resid_pre")):
    model, prompt = answered
    return interp.capture(model, prompt, want=set(want), interventions=interventions)


def test_the_rule_gets_the_logits_of_the_emitting_rows_and_those_at_each_depth(answered):
    model, prompt = answered
    seen = []

    def rule(logits, early):
        seen.append((logits, early))
        return logits + 1

    plain, edited = run(answered), run(answered, CorrectLogits((0, 1), model.unembed, rule), want=("logits",))
    rows = list(prompt.layout.positions(EMITTING))
    ((logits, early),) = seen
    assert early.shape == (2, 1, len(rows), plain.logits.shape[-1])
    torch.testing.assert_close(logits[0], plain.logits[rows])
    for depth in (0, 1):
        torch.testing.assert_close(early[depth, 0], model.unembed(plain.resid_pre[depth][rows]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(edited.logits[rows], plain.logits[rows] + 1)
    others = [i for i in range(len(prompt)) if i not in rows]
    torch.testing.assert_close(edited.logits[others], plain.logits[others], rtol=0, atol=0)


def test_it_holds_functions_and_needs_a_depth():
    with pytest.raises(TypeError, match="CorrectLogits holds functions, which cannot be written to a file"):
        CorrectLogits((0,), torch.neg, torch.add).to_dict()
    with pytest.raises(ValueError, match="at least one depth"):
        CorrectLogits((), torch.neg, torch.add)
