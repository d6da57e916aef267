"""LLaVA-OneVision: like LLaVA-NeXT, but a large grid of tiles is shrunk, and each of several images gets one padded grid."""

from dataclasses import replace
from math import sqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, siglip, text, without_video
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView
from interp.families.llava_next import tiled

_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ '\\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of the whole image and that of its tiles; with several images in the prompt, only the padded whole image.

    In that case, one newline ends the whole image instead of each row, so its last row is a separate grid.
    """
    vision = view.config.vision_config
    side, (width, height) = vision.image_size // vision.patch_size, view.size
    seen = side * vision.patch_size / vision.image_size  # the share of a tile that whole patches cover
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


def _tiny() -> tuple[Any, Any]:
    """Return a LLaVA-OneVision of two layers with tiles of 30 × 30 pixels and 4 × 4 patches, and its processor."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        LlavaOnevisionProcessor,
    )

    tokenizer = small_tokenizer(["<image>", "<video>", "<|im_start|>", "<|im_end|>"])
    pinpoints = [[30 * rows, 30 * cols] for rows in range(1, 5) for cols in range(1, 5)]
    images = LlavaOnevisionImageProcessorPil(size={"height": 30, "width": 30}, image_grid_pinpoints=pinpoints)
    own = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    settings = {"image_processor": images, "tokenizer": tokenizer, "chat_template": _TEMPLATE, **own}
    processor = without_video(LlavaOnevisionProcessor, **settings)
    config = LlavaOnevisionConfig(
        text_config=text("qwen2", tokenizer, num_key_value_heads=2, tie_word_embeddings=False, bos_token_id=None),
        vision_config=siglip(30),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    return random_model(LlavaOnevisionForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
