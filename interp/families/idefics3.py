"""Idefics 3: an image is stretched to whole tiles, and a copy of the whole, one tile large, follows them."""

from math import ceil, isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize + ':' }}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else (' ' if loop.first else '') + part['text'] }}"
    "{% endfor %}{% endif %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SPECIAL = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")


def tiles(images: Any, width: int, height: int) -> tuple[int, int]:
    """Return into how many rows and columns of tiles an image processor cuts an image of this size."""
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


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of every tile, row by row, and that of the whole image, alone where one tile is enough."""
    side = isqrt(view.processor.image_seq_len)
    rows, cols = tiles(view.processor.image_processor, *view.size)
    cut = Grid(view.index, rows, cols, view.whole)
    boxes = [cut.patch_box(row, col) for row in range(rows) for col in range(cols)] if rows * cols > 1 else []
    return tuple(Grid(view.index, side, side, box, tile=i) for i, box in enumerate([*boxes, view.whole]))


def tiny() -> tuple[Any, Any]:
    """Return an Idefics 3 of two layers on tiles of 42 × 42 pixels and 3 × 3 tokens, and its processor."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    from interp.families._tokenizer import small_tokenizer

    places = [f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)]
    tokenizer = small_tokenizer([*SPECIAL, *places], add_bos=True)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 126}, max_image_size={"longest_edge": 42})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=9, chat_template=TEMPLATE)
    config = Idefics3Config(image_token_id=processor.image_token_id, **shapes(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Idefics3ForConditionalGeneration(config).eval(), processor


def shapes(tokenizer: Any) -> dict[str, Any]:
    """Return the small sizes of text model and vision tower, as arguments of a configuration."""
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    shape |= {"initializer_range": 0.15}
    text: dict[str, Any] = {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(tokenizer), **shape}
    text |= {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    return {"text_config": text, "vision_config": {"image_size": 42, "patch_size": 7, **shape}, "scale_factor": 2}


FAMILY = Family(
    decoder="model.text_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
