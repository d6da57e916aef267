import pytest
import torch

import interp
from interp.data.tokens import EMITTING, Segment
from interp.methods.eah import Eah


def test_it_conforms(seeing, conforms):
    conforms(seeing, Eah(), Eah(share=0.0))


def test_bfloat16_does_not_turn_it_off(model_of, answered, under):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, Eah()), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip"])
@pytest.mark.parametrize("method", [Eah(), Eah(layer=0, above=1.2, share=0.5)])
def test_the_head_with_the_most_sinks_lends_its_map_to_the_others(model_of, answered, under, by_hand, kind, method):
    model = model_of(kind)
    prompt = answered(model)
    image = prompt.layout.positions(Segment.IMAGE)
    after, replied = (prompt.layout.positions(s) for s in (Segment.USER | Segment.RESPONSE, Segment.RESPONSE))
    reading = sorted({*prompt.layout.positions(Segment.USER | EMITTING)} - {*replied})

    def spread(layer, pattern):
        if layer != method.layer:
            return pattern
        sinks = [
            sum(sum(float(a[i, j]) * (i + 1) for i in reading) / len(reading) > method.above for j in image)
            for a in pattern[0]
        ]
        assert max(sinks) > min(sinks)
        pattern = pattern.clone()
        best = pattern[0, sinks.index(max(sinks))].clone()
        for head in range(pattern.shape[1]):
            for row in after:
                pattern[0, head, row] = (1 - method.share) * pattern[0, head, row] + method.share * best[row]
        return pattern

    expected = by_hand(model, prompt, pattern=spread)
    torch.testing.assert_close(under(model, prompt, method), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, under(model, prompt), atol=1e-3)


def test_without_sinks_nothing_happens(model_of, answered, under):
    model = model_of("llava")
    prompt = answered(model)
    with pytest.warns(UserWarning, match="changed nothing"):
        got = under(model, prompt, Eah(above=1e6))
    torch.testing.assert_close(got, under(model, prompt))


def test_rows_keep_their_sums(model_of, picture):
    model = model_of("llava")
    reply = interp.generate(model, model.prepare(picture(), "What?"), Eah(), max_new_tokens=3)
    assert reply.audit[0].row_sum < 1e-5


def test_it_says_that_it_is_a_reconstruction():
    assert "a reconstruction" in Eah.__doc__.splitlines()[0]


def test_a_prompt_without_an_image_is_refused(model_of):
    model = model_of("llava")
    with pytest.raises(ValueError, match=r"acts on an image, but prompts \[0\] have none"):
        interp.generate(model, model.prepare(text="What is there?"), Eah())


def test_what_it_does_not_fit(model_of):
    assert "this is a language model" in Eah().refusal(model_of("qwen2"))
    assert "layer 5 does not exist: it has layers 0..1" in Eah(layer=5).refusal(model_of("llava"))


@pytest.mark.parametrize("settings", [{"layer": -1}, {"above": -1.0}, {"share": 1.5}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"a layer and a bound of at least 0 and a share in \[0, 1\], got"):
        Eah(**settings)
