"""LLaVA 1.5 and its variants: one image, cropped or padded to a square, becomes one grid of CLIP patches."""

from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import clip, random_model, text
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{% for message in messages %}{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}[message['role']] "
    "if message['role'] != 'system' else '' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ ' ' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; its box is the region that remains after padding to a square, resizing and cropping."""
    images, (width, height) = view.processor.image_processor, view.size
    x0 = y0 = 0
    if images.do_pad and "pad_to_square" in dir(images):
        side = max(width, height)
        x0, y0, width, height = -((side - width) // 2), -((side - height) // 2), side, side
    tall, wide = view.inputs["pixel_values"].shape[-2:]
    if images.do_resize and images.size.get("shortest_edge"):
        short = images.size["shortest_edge"]
        new_width, new_height = (max(short, int(short * a / b)) for a, b in ((width, height), (height, width)))
    else:
        new_width, new_height = (wide, tall) if images.do_resize else (width, height)
    patch = view.config.vision_config.patch_size
    left, top = (new_width - wide) // 2, (new_height - tall) // 2
    rows, cols = tall // patch, wide // patch
    pixel_x, pixel_y = width / new_width, height / new_height
    box = (
        x0 + left * pixel_x,
        y0 + top * pixel_y,
        x0 + (left + cols * patch) * pixel_x,
        y0 + (top + rows * patch) * pixel_y,
    )
    return (Grid(view.index, rows, cols, box),)


def _tiny() -> tuple[Any, Any]:
    """Return a LLaVA of two layers with 28 × 28 pixels and 4 × 4 patches, and its processor."""
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = small_tokenizer(["<image>"], add_bos=True)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    own = {"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaProcessor(images, tokenizer, chat_template=_TEMPLATE, **own)
    config = LlavaConfig(
        text_config=text("llama", tokenizer, num_key_value_heads=4),
        vision_config=clip(28),
        image_token_index=processor.image_token_id,
        image_seq_length=16,
    )
    return random_model(LlavaForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
