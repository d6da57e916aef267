"""LLaVA-OneVision: as LLaVA-NeXT, with the tiles' grid shrunk when it is large; several images get one padded grid each."""

from dataclasses import replace
from math import sqrt
from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView
from interp.families.llava_next import tiled

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ '\\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of the whole image and that of its tiles; of one among several images the padded whole alone.

    There one newline ends the whole image, not each row: its last row is a grid of its own.
    """
    vision = view.config.vision_config
    side, (width, height) = vision.image_size // vision.patch_size, view.size
    seen = side * vision.patch_size / vision.image_size  # the part of a tile that whole patches cover
    if max(view.inputs.get("batch_num_images", [1])) > 1:
        edge = max(width, height)
        x0, y0, extent = float(-((edge - width) // 2)), float(-((edge - height) // 2)), edge * seen
        cut = y0 + extent * (side - 1) / side
        above = Grid(view.index, side - 1, side, (x0, y0, x0 + extent, cut))
        return (above, Grid(view.index, 1, side, (x0, cut, x0 + extent, y0 + extent), newline=True))
    joined = tiled(view)
    most = int(view.processor.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = sqrt(joined.rows * joined.cols / (most * side**2))
    if ratio > 1.1:
        joined = replace(joined, rows=int(joined.rows // ratio), cols=int(joined.cols // ratio))
    return (Grid(view.index, side, side, (0.0, 0.0, width * seen, height * seen)), joined)


def tiny() -> tuple[Any, Any]:
    """Return a LLaVA-OneVision of two layers on tiles of 30 × 30 pixels and 4 × 4 patches, and its processor."""
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        LlavaOnevisionProcessor,
    )

    from interp.families._processor import without_video
    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(["<image>", "<video>", "<|im_start|>", "<|im_end|>"])
    pinpoints = [[30 * rows, 30 * cols] for rows in range(1, 5) for cols in range(1, 5)]
    images = LlavaOnevisionImageProcessorPil(size={"height": 30, "width": 30}, image_grid_pinpoints=pinpoints)
    own = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    made = {"image_processor": images, "tokenizer": tokenizer, "chat_template": TEMPLATE, **own}
    processor = without_video(LlavaOnevisionProcessor, **made)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.15}
    text = {
        "model_type": "qwen2",
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        **shape,
    }
    text |= {"vocab_size": len(tokenizer), "eos_token_id": 2, "pad_token_id": 0}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "vision_use_head": False, **shape}
    config = LlavaOnevisionConfig(
        text_config=text,
        vision_config={"image_size": 30, "patch_size": 7, **vision},
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlavaOnevisionForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
