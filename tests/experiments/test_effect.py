import pytest
import torch
from torch.testing import assert_close

import interp
from interp import EVERY, LAST, Segment
from interp.experiments.effect import Answers, Ends, Length, Logit, Loss, Probability, effect
from interp.experiments.knockout import attention_knockout, patch
from interp.experiments.sinks import Task, sink_ablation, sink_study
from interp.interventions.attention import MaskAttention
from interp.interventions.values import ZeroValues
from interp.taps.audit import NothingChanged
from interp.testing.planted import planted_sink


@pytest.fixture(scope="module")
def planted():
    return planted_sink()


@pytest.fixture(scope="module")
def prompt(planted):
    return planted.model.prepare(text="cafebabedeadbeef")


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


def test_the_sink_study_finds_the_planted_sink_and_what_breaks(planted):
    words = ("cafebabe", "deadbeefa", "fadedcab")
    prompts = [planted.model.prepare(text=w) for w in words]
    letters = "abcdefghijklmnop"

    def score(index, reply):
        return {"quality": float(reply.text[0] == letters[letters.index(words[index][-1]) + 1])}

    with pytest.warns(NothingChanged):
        study = sink_study(planted.model, [Task("next letter", prompts, score, 3)], batch_size=2, progress=False)
    table = study.table().set_index(["tokens", "how"])["quality"]
    assert table["nothing", "none"] == table["sink", "zero"] == table["other", "mask"] == 1
    assert table["sink", "mask"] < 0.5
    assert len(study.frame()) == 3 * (1 + 2 * 3)


def test_no_sink_is_said_with_the_most_attended_token(planted):
    task = Task("none", [planted.model.prepare(text="cafe")], lambda i, r: {}, 2)
    from interp.analysis.sinks import Sinks

    with pytest.raises(ValueError, match=r"no attention sink in this prompt: the most attended token is '<s>'"):
        sink_study(planted.model, [task], detector=Sinks(epsilon=1.0), progress=False)
    with pytest.raises(ValueError, match="how is one of mask, zero, mean, got 'drop'"):
        sink_ablation("drop")


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
