import pytest
import torch

from interp.data.tokens import Segment
from interp.methods.spear import Spear
from interp.methods.vaf import Vaf

STRONG, NEUTRAL = {"enhance": 3.0, "suppress": 0.2}, {"enhance": 1.0, "suppress": 1.0}


@pytest.mark.parametrize("method", [Vaf, Spear])
def test_it_conforms(seeing, conforms, method):
    conforms(seeing, method(**STRONG), method(**NEUTRAL))


def test_it_spares_sinks_and_conforms(model_of, conforms):
    conforms(model_of("qwen2_5_vl"), Vaf(**STRONG, spare_sinks=True, mode="abs"), Vaf(**NEUTRAL, spare_sinks=True))


@pytest.mark.parametrize("method", [Vaf, Spear])
def test_bfloat16_does_not_turn_it_off(model_of, answered, under, method):
    model = model_of("llava", torch.bfloat16)
    prompt = answered(model)
    assert not torch.equal(under(model, prompt, method()), under(model, prompt))


@pytest.mark.parametrize("kind", ["llava", "internvl"])
@pytest.mark.parametrize("mode", ["signed", "abs"])
@pytest.mark.parametrize(
    ("method", "spares"),
    [(Vaf(), False), (Vaf(spare_sinks=True), True), (Spear(), True)],
    ids=["vaf", "fixed", "spear"],
)
def test_it_is_two_factors_on_the_scores_of_the_rows_after_the_image(
    model_of, answered, under, by_hand, kind, mode, method, spares
):
    model = model_of(kind)
    prompt = answered(model).marked(sink=[0])
    segment = prompt.layout.segment
    image, system = segment == Segment.IMAGE.value, segment == Segment.SYSTEM.value
    after = (segment == Segment.USER.value) | (segment == Segment.RESPONSE.value)
    lowered = system | after if isinstance(method, Spear) else system
    lowered[0] &= not spares
    chosen = type(method)(**{**method.settings(), "mode": mode})

    def scores(layer, z):
        if layer != 1:  # 9..14 of 32 come to the second of two layers
            return z
        factor = torch.ones_like(segment, dtype=torch.float32)
        factor[image], factor[lowered] = 1.15, 0.95
        scaled = z * factor if mode == "signed" else z + (factor - 1) * z.abs()
        return torch.where(after[:, None], scaled, z)

    torch.testing.assert_close(
        under(model, prompt, chosen), by_hand(model, prompt, scores=scores), rtol=1e-5, atol=1e-5
    )


def test_a_factor_above_one_lowers_the_share_of_a_negative_score_when_signed_and_raises_it_when_absolute():
    """The published form multiplies scores, so that an image token with a negative score gets less attention, not more."""
    scores = torch.tensor([-2.0, 0.5, 1.0])
    before = scores.softmax(-1)[0]
    signed, absolute = scores.clone(), scores.clone()
    signed[0] *= 1.15
    absolute[0] += 0.15 * scores[0].abs()
    assert signed.softmax(-1)[0] < before < absolute.softmax(-1)[0]


@pytest.mark.parametrize("method", [Vaf(), Spear()])
def test_what_it_does_not_fit(model_of, method):
    assert "this is a language model" in method.refusal(model_of("qwen2"))
