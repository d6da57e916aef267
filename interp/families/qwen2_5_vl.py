"""Qwen2.5-VL: images become tokens as in Qwen2-VL; most layers of the vision tower attend within windows."""

from typing import Any

from interp.families.base import Family
from interp.families.qwen2_vl import SPECIAL, TEMPLATE, grids


def tiny() -> tuple[Any, Any]:
    """Return a Qwen2.5-VL of two layers with a token for every 14 × 14 pixels, 40 at most, and its processor."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessorPil,
    )

    from interp.families._processor import without_video
    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    area = {"shortest_edge": 4 * 14**2, "longest_edge": 40 * 14**2}
    images = Qwen2VLImageProcessorPil(patch_size=7, merge_size=2, size=area)
    processor = without_video(Qwen2_5_VLProcessor, image_processor=images, tokenizer=tokenizer, chat_template=TEMPLATE)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
    }
    text |= {"hidden_size": 64, "intermediate_size": 96, "initializer_range": 0.15, **ids}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "num_heads": 4,
    }
    vision |= {"patch_size": 7, "window_size": 28, "fullatt_block_indexes": [1], "initializer_range": 0.15}
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    special = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **special, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2_5_VLForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
