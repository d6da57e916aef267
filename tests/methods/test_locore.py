import pytest
import torch

from interp.data.tokens import Segment
from interp.methods.locore import Locore


def test_it_conforms(tiny, conforms):
    conforms(tiny, Locore(gain=2.0, window=3), Locore(gain=0.0), first=False)


def test_scores_instead_of_the_pattern(model_of, conforms):
    conforms(model_of("qwen2"), Locore(gain=2.0, tier="pre"), Locore(gain=0.0, tier="pre"), first=False)


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Locore()), under(model, prompt, Locore(gain=0.5)))


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_it_is_what_the_paper_s_algorithm_does_to_each_row(model_of, answered, under, by_hand, kind):
    model = model_of(kind)
    prompt = answered(model)
    reply = set(prompt.layout.positions(Segment.RESPONSE))

    def algorithm_2(layer, pattern):
        pattern = pattern.clone()
        for row in reply:
            for key in reply:
                if key < row and row - key <= 4:
                    pattern[:, :, row, key] *= 1.3
        return pattern

    expected = by_hand(model, prompt, pattern=algorithm_2)
    torch.testing.assert_close(under(model, prompt, Locore(gain=0.3, window=4)), expected, rtol=1e-5, atol=1e-5)


def test_the_first_two_tokens_of_a_reply_have_no_predecessors(model_of, answered, under):
    model = model_of("llava")
    prompt = answered(model)
    first = prompt.layout.positions(Segment.RESPONSE)[0]
    plain, edited = under(model, prompt), under(model, prompt, Locore(gain=5.0))
    torch.testing.assert_close(plain[:, : first + 1], edited[:, : first + 1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain[:, first + 1], edited[:, first + 1])


def test_the_prompt_s_text_can_count_as_reply(model_of, answered, under):
    model = model_of("llava")
    prompt = answered(model)
    last = prompt.layout.positions(Segment.USER)[-1]
    plain, legacy = under(model, prompt), under(model, prompt, Locore(gain=1.0, prompt_too=True))
    torch.testing.assert_close(plain[:, :last], legacy[:, :last], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain[:, last], legacy[:, last])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", [{"gain": -0.1}, {"window": 0}, {"tier": "mid"}])
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(
        ValueError, match="LocoRE takes a gain of at least 0, a window of at least 1 and tier 'post' or 'pre', got"
    ):
        Locore(**wrong)


def test_it_is_printed_with_its_settings():
    assert str(Locore(gain=0.2)) == "Locore(gain=0.2, window=5, tier='post', prompt_too=False, layers=None)"
