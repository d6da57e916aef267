import math

import pytest
import torch
from torch.testing import assert_close

from interp.data.tokens import Segment
from interp.methods.m3id import M3id

STRONG = M3id(rate=1.0, beta=0.0)
NEUTRAL = M3id(rate=0.0, beta=0.0)


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL, first=False)


def growing(rate, beta):
    def combine(here, there, step):
        here, there, kept = here.log_softmax(-1), there.log_softmax(-1), math.exp(-rate * (step + 1))
        scores = here + (1 - kept) / kept * (here - there)
        scores[here.exp() < beta * here.exp().max()] = -torch.inf
        return scores.masked_fill(here == -torch.inf, -torch.inf)

    return combine


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl"])
def test_it_is_two_whole_passes_a_token(model_of, picture, uncached, two_passes, kind):
    model = model_of(kind)
    prompt = model.prepare(picture(), "What is there?")
    other = model.prepare(text="What is there?")
    streams = uncached(model, model.inputs([prompt])), uncached(model, model.inputs([other]))
    two_passes(model, prompt, M3id(rate=0.3, beta=0.05), streams, growing(0.3, 0.05))


def test_a_model_that_needs_an_image_does_not_look_at_it(model_of, picture, by_hand, uncached, two_passes):
    model = model_of("instructblip")
    prompt = model.prepare(picture(), "What is there?")
    image = prompt.layout.mask(Segment.IMAGE)

    def blind(ids):
        def scores(layer, z):
            hidden = torch.zeros(z.shape[-2:], dtype=torch.bool)
            hidden[len(image) - int((~image).sum()) :, : len(image)] = image
            return z.masked_fill(hidden, -1e30)

        whole = prompt.with_response(ids) if ids else prompt
        return by_hand(model, whole, scores)[0, -1]

    assert bool(image[: int(image.sum())].all()), "the image comes first"
    two_passes(
        model, prompt, M3id(rate=0.3, beta=0.05), (uncached(model, model.inputs([prompt])), blind), growing(0.3, 0.05)
    )


def test_the_image_s_part_grows_with_the_reply_and_certain_tokens_are_left_alone():
    logits, others = torch.tensor([[2.0, 1.0, 0.0], [9.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    early, late = (M3id(rate=0.1, confident=0.9, beta=0.0).combine()(logits, others, t) for t in (0, 20))
    gap = lambda x: x[:, 0] - x[:, 1]  # noqa: E731
    ratio = [math.exp(0.1 * t) - 1 for t in (1, 21)]
    assert_close(gap(early)[0], torch.tensor(1 + ratio[0] * 2), rtol=1e-5, atol=1e-5)
    assert_close(gap(late)[0], torch.tensor(1 + ratio[1] * 2), rtol=1e-5, atol=1e-5)
    assert_close(gap(early)[1], torch.tensor(8.0))
    assert_close(gap(late)[1], torch.tensor(8.0))


@pytest.mark.parametrize("settings", [{"rate": -1.0}, {"confident": 0.0}, {"confident": 1.5}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=r"rate is at least 0 and confident a probability in \(0, 1\], got"):
        M3id(**settings)
