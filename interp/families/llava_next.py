"""LLaVA-NeXT (1.6): the whole image as one grid, then its tiles joined into a second one whose rows end in a newline token."""

from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import clip, random_model, text
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'system': '<<SYS>>\\n', 'user': '[INST] ', 'assistant': ' '}[message['role']] }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ {'system': '\\n<</SYS>>\\n\\n', 'user': ' [/INST]', 'assistant': eos_token}[message['role']] }}{% endfor %}"
)


def tiled(view: ImageView) -> Grid:
    """Return the grid of the joined tiles, without the rows or columns that are padding only.

    The box covers the kept patches: it ends up to half a patch outside or inside the image, because only whole patches are kept.

    Raises:
        ValueError: the image is so narrow that no patch is kept.
    """
    import numpy as np
    import torch
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    (width, height), tile = view.size, view.inputs["pixel_values"].shape[-1]
    side = tile // view.config.vision_config.patch_size
    canvas = select_best_resolution((height, width), view.processor.image_processor.image_grid_pinpoints)
    new = get_patch_output_size(np.broadcast_to(0, (3, height, width)), canvas, "channels_first")
    every = torch.meshgrid(*(torch.arange(edge // tile * side) for edge in canvas), indexing="ij")
    kept = unpad_image(torch.stack(every), (height, width))
    if not kept.numel():
        raise ValueError(
            f"unpadding leaves no patch of the tiles of a {width} × {height} image; give a less narrow one"
        )
    rows, cols = kept.shape[1:]
    (top, left), patch = kept[:, 0, 0].tolist(), tile / side
    x0, x1 = ((at * patch - (canvas[1] - new[1]) // 2) * width / new[1] for at in (left, left + cols))
    y0, y1 = ((at * patch - (canvas[0] - new[0]) // 2) * height / new[0] for at in (top, top + rows))
    return Grid(view.index, rows, cols, (x0, y0, x1, y1), tile=1, newline=True)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of the whole image and that of its tiles."""
    side = view.inputs["pixel_values"].shape[-1] // view.config.vision_config.patch_size
    return (Grid(view.index, side, side, view.whole), tiled(view))


def _tiny() -> tuple[Any, Any]:
    """Return a LLaVA-NeXT of two layers with tiles of 28 × 28 pixels and 4 × 4 patches, and its processor."""
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
    )

    tokenizer = small_tokenizer(["<image>"], add_bos=True)
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    crop = {"height": 28, "width": 28}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": 28}, crop_size=crop, image_grid_pinpoints=pinpoints)
    own = {"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaNextProcessor(images, tokenizer, chat_template=_TEMPLATE, **own)
    config = LlavaNextConfig(
        text_config=text("mistral", tokenizer, num_key_value_heads=2, sliding_window=None),
        vision_config=clip(28),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=pinpoints,
    )
    return random_model(LlavaNextForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
