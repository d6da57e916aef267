import pytest
import torch

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, Segment
from interp.methods.adhh import LLAVA_7B, Adhh

SOME = Heads(((0, 1), (1, 3)))


def test_it_conforms(seeing, conforms):
    conforms(seeing, Adhh(SOME, threshold=0.01), Adhh(SOME, threshold=1.5))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Adhh(SOME, 0.01)), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "internvl"])
def test_it_is_what_the_release_does_to_the_last_row_of_every_step(model_of, answered, under, by_hand, kind):
    model = model_of(kind)
    prompt = answered(model)
    text = torch.tensor(prompt.layout.positions(Segment.USER | Segment.RESPONSE))
    rows = prompt.layout.positions(EMITTING)
    shares = []

    def deactivate(layer, pattern, threshold):
        pattern = pattern.clone()
        for head in SOME.of_layer(layer):
            for row in rows:
                shares.append(float(pattern[0, head, row, text].sum()))
                if shares[-1] >= threshold:
                    pattern[0, head, row, text] = 0
        return pattern

    by_hand(model, prompt, pattern=lambda layer, pattern: deactivate(layer, pattern, 2.0))
    low, high = sorted(shares)[len(rows) : len(rows) + 2]
    threshold = (low + high) / 2  # about half of the rows are touched
    expected = by_hand(model, prompt, pattern=lambda layer, pattern: deactivate(layer, pattern, threshold))
    torch.testing.assert_close(under(model, prompt, Adhh(SOME, threshold)), expected, rtol=1e-5, atol=1e-5)


def test_the_share_is_each_sample_s_own(model_of):
    """The release adds the text's share over the batch, so that two samples of 0.3 together pass a threshold of 0.4."""
    from interp.data.layout import Layout
    from interp.taps.running import Pass
    from interp.taps.state import Conversations, PassState

    change = Adhh(SOME, 0.4).interventions(model_of("llava"))[0]
    row = torch.tensor([0.7, 0.3]).expand(2, 2, 1, 2)
    roles = Conversations((Layout(torch.tensor([1, 3])),) * 2)
    roles.advance(2, 1, 1, torch.device("cpu"))
    here = Pass(PassState(roles)).here("decoder", "pattern", 0, row)
    assert float(row[:, 0, 0, 1].sum()) >= 0.4
    torch.testing.assert_close(change(row, here), row, rtol=0, atol=0)


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Adhh(SOME).refusal(model_of("qwen2"))
    assert "layers 0..1 with heads 0..3" in Adhh(LLAVA_7B).refusal(model_of("llava"))
    assert Adhh(SOME).refusal(model_of("llava")) is None


@pytest.mark.parametrize(
    ("wrong", "message"), [(((),), "AD-HH needs heads"), ((SOME, -0.1), "a share of attention of at least 0")]
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Adhh(*wrong)
