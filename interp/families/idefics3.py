"""Idefics 3: an image is stretched to whole tiles, followed by a copy of the whole image at the size of one tile."""

from math import ceil, isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, text, vision
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize + ':' }}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else (' ' if loop.first else '') + part['text'] }}"
    "{% endfor %}{% endif %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TILE_TOKENS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4))
"""The tokens in front of the tiles of the tiny models."""


def tiles(images: Any, width: int, height: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of tiles into which an image processor cuts an image of this size."""
    import numpy as np
    from transformers.models.idefics3.image_processing_pil_idefics3 import get_resize_output_image_size

    side = images.max_image_size["longest_edge"]
    if not images.do_image_splitting:
        return 1, 1
    if images.do_resize:
        height, width = get_resize_output_image_size(np.empty((0, height, width)), images.size["longest_edge"])
    if width >= height:
        cols = ceil(width / side)
        return ceil(int(cols * side / (width / height)) / side), cols
    rows = ceil(height / side)
    return rows, ceil(int(rows * side * (width / height)) / side)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of every tile, row by row, and that of the whole image; only the latter if one tile is enough."""
    side = isqrt(view.processor.image_seq_len)
    rows, cols = tiles(view.processor.image_processor, *view.size)
    cut = Grid(view.index, rows, cols, view.whole)
    boxes = [cut.patch_box(row, col) for row in range(rows) for col in range(cols)] if rows * cols > 1 else []
    return tuple(Grid(view.index, side, side, box, tile=i) for i, box in enumerate([*boxes, view.whole]))


def _tiny() -> tuple[Any, Any]:
    """Return an Idefics 3 of two layers with tiles of 42 × 42 pixels and 3 × 3 tokens, and its processor."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    special = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = small_tokenizer([*special, *TILE_TOKENS], add_bos=True)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 126}, max_image_size={"longest_edge": 42})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=9, chat_template=_TEMPLATE)
    config = Idefics3Config(image_token_id=processor.image_token_id, **idefics_parts(tokenizer))
    return random_model(Idefics3ForConditionalGeneration, config), processor


def idefics_parts(tokenizer: Any) -> dict[str, Any]:
    """Return the tiny text model and vision tower, as arguments of a configuration; SmolVLM has the same."""
    decoder = text("llama", tokenizer, num_key_value_heads=2)
    return {"text_config": decoder, "vision_config": vision(42), "scale_factor": 2}


FAMILY = Family(
    decoder="model.text_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
