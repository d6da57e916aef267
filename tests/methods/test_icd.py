import pytest
import torch

from interp.data.tokens import Segment
from interp.methods.icd import CONFUSED, Icd

STRONG = Icd(alpha=4.0, beta=0.0)
NEUTRAL = Icd(alpha=0.0, beta=0.0)


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL, first=False)


@pytest.mark.parametrize("kind", ["llava", "instructblip"])
def test_the_released_form_conforms(model_of, conforms, kind):
    conforms(model_of(kind), Icd(4.0, 0.0, variant="release"), Icd(0.0, 0.0, variant="release"), first=False)


def test_it_is_two_whole_passes_a_token(seeing, picture, uncached, two_passes, set_apart):
    prompt = seeing.prepare(picture(), "What is there?")
    other = seeing.prepare(picture(), "Mumble. What is there?")
    streams = uncached(seeing, seeing.inputs([prompt])), uncached(seeing, seeing.inputs([other]))
    two_passes(seeing, prompt, Icd(2.0, 0.05, "Mumble."), streams, set_apart(2.0, 0.05))


def test_the_release_puts_it_in_front_of_the_image(model_of, picture, uncached, two_passes, set_apart):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    other = model.prepare(picture(), "What is there?", system_prompt="Mumble.")
    streams = uncached(model, model.inputs([prompt])), uncached(model, model.inputs([other]))
    two_passes(model, prompt, Icd(2.0, 0.05, "Mumble.", "release"), streams, set_apart(2.0, 0.05))


def test_the_release_tells_a_q_former_alone(model_of, picture, uncached, two_passes, set_apart):
    model = model_of("instructblip")
    prompt = model.prepare(picture(), "What is there?")
    inputs, other = model.inputs([prompt]), model.inputs([model.prepare(picture(), "Mumble. What is there?")])
    mixed = {**inputs, **{n: other[n] for n in other if n.startswith("qformer")}}
    assert mixed["qformer_input_ids"].shape != inputs["qformer_input_ids"].shape
    streams = uncached(model, inputs), uncached(model, mixed)
    two_passes(model, prompt, Icd(2.0, 0.05, "Mumble.", "release"), streams, set_apart(2.0, 0.05))


def test_the_disturbance_stands_between_image_and_question(model_of, picture):
    other = Icd().disturb(model_of("llava").prepare(picture(), "What is there?"))
    behind = other.layout.positions(Segment.IMAGE)[-1] + 1
    assert f"{CONFUSED} What is there?" in "".join(other.tokens[behind:])


@pytest.mark.usefixtures("unchecked")
def test_what_it_does_not_take(model_of, picture):
    model = model_of("llava")
    with pytest.raises(ValueError, match="the disturbance is empty; give an instruction"):
        Icd(disturbance=" ")
    with pytest.raises(ValueError, match="variant is 'paper' or 'release', got 'mine'"):
        Icd(variant="mine")
    made = model.prepare(picture(), "What?")
    tensors = model.prepare(inputs={n: torch.as_tensor(v) for n, v in made.inputs.items()})
    with pytest.raises(ValueError, match="this prompt was made from processed tensors"):
        Icd().rules(model, [tensors])
