"""The shipped model, loaded as anybody would, answers far above chance on scenes it never saw."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

import interp
from interp.world import scenes
from interp.world.evaluation import ask
from interp.world.resting import rest_on_text
from interp.world.scoring import score_captions, score_yes_no

FOLDER = Path(interp.__file__).parent / "checkpoints" / "scenes"


@pytest.fixture(scope="module")
def shipped():
    model = LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), AutoProcessor.from_pretrained(FOLDER)


def test_it_answers_yes_and_no(shipped):
    asked = [(s, [q for q in s.questions if q.probe == "adversarial"][-4:]) for s in scenes("test", 40, seed=5)]
    images = [scene.image for scene, questions in asked for _ in questions]
    questions = [question for _, found in asked for question in found]
    found = score_yes_no(ask(*shipped, images, [q.text for q in questions], longest=3), questions)
    assert found.accuracy.value > 0.8
    assert found.unreadable.value < 0.02


def test_it_describes_its_image_and_not_another(shipped):
    drawn = scenes("test", 20, seed=5)
    captions = ask(*shipped, [scene.image for scene in drawn], ["Describe the image in detail."] * 20)
    own, other = score_captions(captions, drawn), score_captions([*captions[1:], captions[0]], drawn)
    assert own.recall.value > 0.75
    assert other.recall.value < 0.5
    assert own.chair_s.value < 0.7


def test_it_rests_on_the_start_and_needs_it(shipped):
    model, processor = shipped
    found = rest_on_text(model, processor.tokenizer, n=8)
    assert found.start.mean(1).max() > 0.25
    assert found.loss_without_start > found.loss + 0.05
    assert found.massive[1:-1].max() > 100


def test_it_talks_without_an_image(shipped):
    model, processor = shipped
    text = processor.apply_chat_template([{"role": "user", "content": "Hello"}], add_generation_prompt=True)
    inputs = processor(text=text, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    assert "help" in processor.decode(out[0, inputs["input_ids"].shape[1] :])


def test_its_card_is_of_this_checkpoint():
    card = json.loads((FOLDER / "card.json").read_text())
    assert card["bytes"] == (FOLDER / "model.safetensors").stat().st_size
    assert card["bytes"] < 40e6
    page = (FOLDER / "README.md").read_text()
    assert page.startswith("---\nlicense: mit")
    assert "annotation noise" in page
