"""Tokenizer and processor: nothing unknown, nothing lost, the conversation of LLaVA-1.5."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from interp.world import scenes, wording
from interp.world.batches import normalise
from interp.world.corpus import document, turn
from interp.world.evaluation import conversation
from interp.world.processor import IMAGE_TOKENS, build_processor, build_tokenizer, chat
from interp.world.scoring import plain
from interp.world.wording import reword


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def test_every_text_of_the_world_is_known(processor):
    generator = np.random.default_rng(123)
    texts = [document(generator) for _ in range(300)] + [" ".join(turn(generator)) for _ in range(300)]
    for scene in scenes("test", 60):
        texts += scene.captions.values()
        texts += [f"{reword(generator, q)} {q.answer}" for q in scene.questions]
    texts += [*wording.all_texts(), "Hello! Please describe this picture.", "0 1 2", "Is there a dog to the left?"]
    unknown = processor.tokenizer.unk_token_id
    assert [text for text in texts if unknown in processor.tokenizer(text)["input_ids"]] == []
    assert unknown in processor.tokenizer("a zeppelin")["input_ids"]


def test_the_tokenizer_is_the_same_every_time(processor):
    assert build_tokenizer().get_vocab() == processor.tokenizer.get_vocab()


def test_decoding_gives_the_text_back(processor):
    for scene in scenes("test", 20):
        caption = scene.captions["detailed"]
        ids = processor.tokenizer(caption)["input_ids"]
        assert ids[0] == processor.tokenizer.bos_token_id
        assert plain(processor.tokenizer.decode(ids, skip_special_tokens=True)) == caption


def test_images_become_what_training_saw(processor):
    drawn = scenes("test", 3)
    pixels = processor.image_processor([scene.image for scene in drawn], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, normalise(np.stack([s.pixels for s in drawn])), atol=1e-5, rtol=1e-5)


def test_batches_are_padded_on_the_left(processor):
    texts = [
        processor.apply_chat_template(conversation(text), add_generation_prompt=True)
        for text in ("Describe the image.", "Is there a cat in the image?")
    ]
    images = [scene.image for scene in scenes("test", 2)]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    assert (inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<image>")).sum(1).tolist() == [
        IMAGE_TOKENS
    ] * 2
    assert inputs["attention_mask"][0, 0] == 0
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]


def test_the_template_writes_the_conversation():
    template = build_processor().apply_chat_template
    user = {"role": "user", "content": [{"type": "text", "text": "Describe."}, {"type": "image"}]}
    assert template([user], add_generation_prompt=True) == f"{wording.SYSTEM} USER: <image>\nDescribe. ASSISTANT:"
    text = {"role": "user", "content": "Hello"}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]}
    assert template([text, answer, text], add_generation_prompt=True) == (
        f"{wording.SYSTEM} USER: Hello ASSISTANT: Hi.</s>USER: Hello ASSISTANT:"
    )
    assert template([text, answer]) == chat([("Hello", "Hi.")])
    other = {"role": "system", "content": "You are a helpful assistant."}
    assert template([other, text]) == "You are a helpful assistant. USER: Hello "
    assert template([{"role": "system", "content": ""}, text, answer]) == chat([("Hello", "Hi.")], "")
    with pytest.raises(Exception, match="roles are user, assistant"):
        template([text, other])


def test_the_processor_survives_a_round_trip(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    text = processor.apply_chat_template(conversation("Where is the cup?"), add_generation_prompt=True)
    assert again.apply_chat_template(conversation("Where is the cup?"), add_generation_prompt=True) == text
    image = scenes("test", 1)[0].image
    first = processor(images=image, text=text, return_tensors="pt")
    second = again(images=image, text=text, return_tensors="pt")
    for name in first:
        torch.testing.assert_close(first[name], second[name])
