import pytest
import torch
from torch.testing import assert_close

import interp
from interp.methods.vcd import NOISE_STEPS, Vcd, signal_share

STRONG = Vcd(alpha=4.0, beta=0.0, noise=999)
NEUTRAL = Vcd(alpha=0.0, beta=0.0)


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL, first=False)


def test_the_schedule_is_the_published_one():
    """The product of 1 - σ(s)(0.005 - 1e-5) - 1e-5, one step after the other in plain Python."""
    import math

    kept, product = [], 1.0
    for i in range(1000):
        rate = 1 / (1 + math.exp(6 - 12 * i / 999)) * (5e-3 - 1e-5) + 1e-5
        product *= 1 - rate
        kept.append(product)
    assert_close(signal_share(), torch.tensor(kept), rtol=1e-4, atol=1e-6)
    assert len(signal_share()) == NOISE_STEPS
    assert kept[0] > 0.999
    assert kept[500] == pytest.approx(0.745, abs=0.001)
    assert kept[999] < 0.1


def test_pixels_are_the_image_and_noise_in_their_shares(model_of, picture):
    prompt = model_of("llava").prepare(picture(), "What is there?")
    noised = Vcd(noise=700).add_noise(prompt)
    kept = float(signal_share()[700])
    drawn = (noised.inputs["pixel_values"] - kept**0.5 * prompt.inputs["pixel_values"]) / (1 - kept) ** 0.5
    assert abs(float(drawn.mean())) < 0.1
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)
    assert_close(Vcd(noise=700).add_noise(prompt).inputs["pixel_values"], noised.inputs["pixel_values"], rtol=0, atol=0)
    assert not torch.equal(
        Vcd(noise=700, seed=1).add_noise(prompt).inputs["pixel_values"], noised.inputs["pixel_values"]
    )
    assert noised.ids == prompt.ids
    assert noised.layout is prompt.layout


def test_a_still_picture_s_frames_get_the_same_noise(model_of, picture):
    model = model_of("qwen2_5_vl")
    prompt = model.prepare(picture(), "What is there?")
    frames = model.config.vision_config.temporal_patch_size
    assert frames == 2
    for inputs in (prompt.inputs, Vcd().add_noise(prompt, frames).inputs):
        pixels = inputs["pixel_values"].unflatten(1, (3, frames, -1))
        assert_close(pixels[:, :, 0], pixels[:, :, 1], rtol=0, atol=0)


def test_it_is_two_whole_passes_a_token(seeing, picture, uncached, two_passes, set_apart):
    prompt = seeing.prepare(picture(), "What is there?")
    inputs = seeing.inputs([prompt])
    pixels = inputs["pixel_values"]
    frames = 2 if seeing.config.model_type == "qwen2_5_vl" else 1
    shape = pixels.shape if frames == 1 else (len(pixels), 3, 1, pixels.shape[1] // 6)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    drawn = drawn if frames == 1 else torch.cat([drawn, drawn], 2).flatten(1)
    kept = signal_share()[800]
    noised = {**inputs, "pixel_values": kept**0.5 * pixels + (1 - kept) ** 0.5 * drawn}
    streams = uncached(seeing, inputs), uncached(seeing, noised)
    two_passes(seeing, prompt, Vcd(2.0, 0.05, noise=800, seed=3), streams, set_apart(2.0, 0.05))


@pytest.mark.parametrize("noise", [-1, 1000])
def test_a_step_the_schedule_does_not_have_is_refused(noise):
    with pytest.raises(ValueError, match=f"noise is a step of the schedule, 0 to 999, got {noise}"):
        Vcd(noise=noise)


def test_the_noise_matters_and_repeats(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    replies = [
        interp.generate(model, prompt, Vcd(8.0, 0.0, noise=999, seed=s), max_new_tokens=12, min_new_tokens=12).ids
        for s in (0, 0, 1)
    ]
    assert replies[0] == replies[1] != replies[2]
