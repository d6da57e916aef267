"""InternVL 2.5 and 3: an image is cut into square tiles, and a thumbnail of the whole follows them."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, text, vision, without_video
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<IMG_CONTEXT>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of every tile, row by row, and that of the thumbnail where there is more than one tile.

    Whether and how finely images are cut is read from the processor; arguments of a single call cannot be seen here.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    side, (width, height), images = isqrt(view.processor.image_seq_length), view.size, view.processor.image_processor
    settings = {**images.to_dict(), **view.processor.images_kwargs}
    across, down = 1, 1
    if settings["crop_to_patches"] and settings["max_patches"] > 1:
        tile = (settings["size"]["height"], settings["size"]["width"])
        bounds = settings["min_patches"], settings["max_patches"]
        across, down = get_optimal_tiled_canvas((height, width), tile, *bounds)
    if across * down == 1:
        return (Grid(view.index, side, side, view.whole),)
    tiles = Grid(view.index, down, across, view.whole)
    boxes = [tiles.patch_box(row, col) for row in range(down) for col in range(across)] + [view.whole]
    return tuple(Grid(view.index, side, side, box, tile=i) for i, box in enumerate(boxes))


def _tiny() -> tuple[Any, Any]:
    """Return an InternVL of two layers with tiles of 56 × 56 pixels and 4 × 4 tokens, and its processor."""
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
    )

    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = small_tokenizer(["<|im_start|>", "<|im_end|>"], add_bos=False, video_token="<video>", **named)
    images = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, max_patches=6)
    settings = {"image_processor": images, "tokenizer": tokenizer, "image_seq_length": 16, "chat_template": _TEMPLATE}
    processor = without_video(InternVLProcessor, **settings)
    config = InternVLConfig(
        text_config=text("qwen2", tokenizer, num_key_value_heads=2, tie_word_embeddings=False, bos_token_id=None),
        vision_config=vision(56),
        image_token_id=processor.image_token_id,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    return random_model(InternVLForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
