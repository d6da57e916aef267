"""SmolVLM: a smaller Idefics 3, with images cut the same way."""

from types import SimpleNamespace
from typing import Any

from interp.families._tiny import random_model, without_video
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family
from interp.families.idefics3 import FAMILY as IDEFICS3
from interp.families.idefics3 import TILE_TOKENS, idefics_parts

_TEMPLATE = (
    "{{ '<|im_start|>' }}{% for message in messages %}{{ message['role'] | capitalize + ':' }}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else (' ' if loop.first else '') + part['text'] }}"
    "{% endfor %}{% endif %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def _tiny() -> tuple[Any, Any]:
    """Return a SmolVLM of two layers with tiles of 42 × 42 pixels and 3 × 3 tokens, and its processor."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
        SmolVLMProcessor,
    )
    from transformers.models.smolvlm import processing_smolvlm

    names: dict[str, Any] = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    names |= {"end_of_utterance_token": "<end_of_utterance>", "global_image_token": "<global-img>"}
    tokenizer = small_tokenizer(TILE_TOKENS, bos_token="<|im_start|>", eos_token="<end_of_utterance>", **names)
    images = SmolVLMImageProcessorPil(size={"longest_edge": 126}, max_image_size={"longest_edge": 42})
    settings = {"image_processor": images, "tokenizer": tokenizer, "image_seq_len": 9, "chat_template": _TEMPLATE}
    # The constructor requires num2words, which only videos use.
    spelling = processing_smolvlm.num2words
    try:
        processing_smolvlm.num2words = spelling or str
        processor = without_video(SmolVLMProcessor, **settings)
    finally:
        processing_smolvlm.num2words = spelling
    # The chat template reads these two attributes even without a video.
    processor.video_processor = SimpleNamespace(num_frames=None, fps=None)
    config = SmolVLMConfig(image_token_id=processor.image_token_id, **idefics_parts(tokenizer))
    return random_model(SmolVLMForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.text_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=IDEFICS3.grids,
    tiny=_tiny,
)
