"""LLaVA 1.5 and its kin: one image, cropped or padded to a square, becomes one grid of CLIP patches."""

from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView

TEMPLATE = (
    "{% for message in messages %}{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}[message['role']] "
    "if message['role'] != 'system' else '' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ ' ' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; its box is what is left after padding to a square, resizing and cropping."""
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


def tiny() -> tuple[Any, Any]:
    """Return a LLaVA of two layers that sees 28 × 28 pixels as 4 × 4 patches, and its processor."""
    import torch
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(["<image>"], add_bos=True)
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )  # fmt: skip
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.15}
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        **shape,
    }
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {"model_type": "clip_vision_model", "num_hidden_layers": 3, "image_size": 28, "patch_size": 7, **shape}
    config = LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=processor.image_token_id, image_seq_length=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlavaForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
