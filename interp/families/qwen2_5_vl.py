"""Qwen2.5-VL: images become tokens as in Qwen2-VL; most layers of the vision tower attend within windows."""

from typing import Any

from interp.families._tiny import qwen_vl
from interp.families.base import Family
from interp.families.qwen2_vl import FAMILY as QWEN2_VL
from interp.families.qwen2_vl import QWEN_VL_TEMPLATE


def _tiny() -> tuple[Any, Any]:
    """Return a Qwen2.5-VL of two layers with a token for every 14 × 14 pixels, at most 40 tokens, and its processor."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    classes = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor)
    tower: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    tower |= {"window_size": 28, "fullatt_block_indexes": [1]}
    return qwen_vl(classes, QWEN_VL_TEMPLATE, 7, tower)


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=QWEN2_VL.grids,
    tiny=_tiny,
)
