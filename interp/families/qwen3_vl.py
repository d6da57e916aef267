"""Qwen3-VL: images become tokens as in Qwen2-VL; more of their features join the stream after the first layers."""

from typing import Any

from interp.families.base import Family
from interp.families.qwen2_vl import SPECIAL, grids

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny() -> tuple[Any, Any]:
    """Return a Qwen3-VL of three layers, image features added after the first two, and its processor."""
    import torch
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
    )

    from interp.families._processor import without_video
    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    area = {"shortest_edge": 4 * 16**2, "longest_edge": 40 * 16**2}
    images = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, size=area)
    processor = without_video(Qwen3VLProcessor, image_processor=images, tokenizer=tokenizer, chat_template=TEMPLATE)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text: dict[str, Any] = {
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
    }
    text |= {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96, "initializer_range": 0.15, **ids}
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 3, 3],
        "mrope_interleaved": True,
    }
    vision: dict[str, Any] = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "num_heads": 4,
    }
    vision |= {"patch_size": 8, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    special = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    config = Qwen3VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={**vision, "initializer_range": 0.15},
        **special,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen3VLForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
