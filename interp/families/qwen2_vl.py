"""Qwen2-VL: an image of any shape is resized to whole patches; a token is a square of neighbouring patches."""

from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image: the image is resized as a whole, and patches are merged into tokens."""
    merge = view.config.vision_config.spatial_merge_size
    _, tall, wide = view.inputs["image_grid_thw"][view.index].tolist()
    return (Grid(view.index, tall // merge, wide // merge, view.whole),)


def tiny() -> tuple[Any, Any]:
    """Return a Qwen2-VL of two layers with a token for every 14 × 14 pixels, 40 of them at most, and its processor."""
    import torch
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
        Qwen2VLProcessor,
    )

    from interp.families._processor import without_video
    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    images = Qwen2VLImageProcessorPil(
        patch_size=7, merge_size=2, size={"shortest_edge": 4 * 14**2, "longest_edge": 40 * 14**2}
    )
    processor = without_video(Qwen2VLProcessor, image_processor=images, tokenizer=tokenizer, chat_template=TEMPLATE)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "initializer_range": 0.15,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        **ids,
    }
    vision: dict[str, Any] = {
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "initializer_range": 0.15,
    }
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    special = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **special, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2VLForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.visual",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
