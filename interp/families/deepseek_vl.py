"""DeepSeek-VL: the image, padded to a square, becomes one grid of SigLIP patches."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ 'You are a helpful language and vision assistant.\\n\\n' }}{% endif %}"
    "{% for message in messages %}{{ {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[message['role']] }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image_placeholder>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' else '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; its box is the square that the image was padded to."""
    images, (width, height), side = view.processor.image_processor, view.size, isqrt(view.processor.num_image_tokens)
    square, least = images.size["height"], images.min_size
    new_width, new_height = (max(round(edge * square / max(view.size)), least) for edge in view.size)
    edge = max(new_width, new_height)
    left, top = (edge - new_width) // 2, (edge - new_height) // 2
    pixel_x, pixel_y = width / new_width, height / new_height
    box = (-left * pixel_x, -top * pixel_y, (edge - left) * pixel_x, (edge - top) * pixel_y)
    return (Grid(view.index, side, side, box),)


def tiny() -> tuple[Any, Any]:
    """Return a DeepSeek-VL of two layers that sees 28 × 28 pixels as 4 × 4 patches, and its processor."""
    import torch
    from transformers import (
        DeepseekVLConfig,
        DeepseekVLForConditionalGeneration,
        DeepseekVLImageProcessorPil,
        DeepseekVLProcessor,
    )

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(add_bos=True, image_token="<image_placeholder>")
    images = DeepseekVLImageProcessorPil(size={"height": 28, "width": 28}, min_size=7)
    processor = DeepseekVLProcessor(images, tokenizer, chat_template=TEMPLATE, num_image_tokens=16)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.15}
    text = {"model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": 4, **shape}
    text |= {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "vision_use_head": False, **shape}
    config = DeepseekVLConfig(
        text_config=text,
        vision_config={"image_size": 28, "patch_size": 7, **vision},
        image_token_id=processor.image_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeepseekVLForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
