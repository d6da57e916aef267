"""Qwen3-VL: images become tokens as in Qwen2-VL; further image features are added to the residual stream after the first layers."""

from typing import Any

from interp.families._tiny import qwen_vl
from interp.families.base import Family
from interp.families.qwen2_vl import FAMILY as QWEN2_VL

_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _tiny() -> tuple[Any, Any]:
    """Return a Qwen3-VL of three layers, with image features added after the first two, and its processor."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    classes = (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
    tower: dict[str, Any] = {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    tower |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return qwen_vl(classes, _TEMPLATE, 8, tower, {"mrope_interleaved": True}, num_hidden_layers=3, head_dim=16)


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=QWEN2_VL.grids,
    tiny=_tiny,
)
