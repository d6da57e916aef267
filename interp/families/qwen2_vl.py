"""Qwen2-VL: an image of any shape is resized to whole patches; a token is a square of neighbouring patches."""

from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import qwen_vl
from interp.families.base import Family, ImageView

QWEN_VL_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image: the image is resized as a whole, and patches are merged into tokens."""
    merge = view.config.vision_config.spatial_merge_size
    _, tall, wide = view.inputs["image_grid_thw"][view.index].tolist()
    return (Grid(view.index, tall // merge, wide // merge, view.whole),)


def _tiny() -> tuple[Any, Any]:
    """Return a Qwen2-VL of two layers with a token for every 14 × 14 pixels, at most 40 tokens, and its processor."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    classes = (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor)
    return qwen_vl(classes, QWEN_VL_TEMPLATE, 7, {"embed_dim": 32, "hidden_size": 64})


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
