"""DeepSeek-VL: the image, padded to a square, becomes one grid of SigLIP patches."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, siglip, text
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ 'You are a helpful language and vision assistant.\\n\\n' }}{% endif %}"
    "{% for message in messages %}{{ {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[message['role']] }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image_placeholder>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; its box is the square that the image was padded to."""
    images, (width, height), side = view.processor.image_processor, view.size, isqrt(view.processor.num_image_tokens)
    square, least = images.size["height"], images.min_size
    new_width, new_height = (max(round(edge * square / max(view.size)), least) for edge in view.size)
    edge = max(new_width, new_height)
    left, top = (edge - new_width) // 2, (edge - new_height) // 2
    pixel_x, pixel_y = width / new_width, height / new_height
    box = (-left * pixel_x, -top * pixel_y, (edge - left) * pixel_x, (edge - top) * pixel_y)
    return (Grid(view.index, side, side, box),)


def _tiny() -> tuple[Any, Any]:
    """Return a DeepSeek-VL of two layers with 28 × 28 pixels and 4 × 4 patches, and its processor."""
    from transformers import (
        DeepseekVLConfig,
        DeepseekVLForConditionalGeneration,
        DeepseekVLImageProcessorPil,
        DeepseekVLProcessor,
    )

    tokenizer = small_tokenizer(add_bos=True, image_token="<image_placeholder>")
    images = DeepseekVLImageProcessorPil(size={"height": 28, "width": 28}, min_size=7)
    processor = DeepseekVLProcessor(images, tokenizer, chat_template=_TEMPLATE, num_image_tokens=16)
    config = DeepseekVLConfig(
        text_config=text("llama", tokenizer, num_key_value_heads=4),
        vision_config=siglip(28),
        image_token_id=processor.image_token_id,
        tie_word_embeddings=False,
    )
    return random_model(DeepseekVLForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
