"""Gemma 3: the image, squeezed into a square, becomes one grid of pooled patches; pan and scan adds one for every crop."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, siglip, text
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView

_TEMPLATE = (
    "{{ bos_token }}{% set first = messages[0] if messages[0]['role'] == 'system' else none %}"
    "{% for message in messages if message['role'] != 'system' %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{% if first and loop.first %}"
    "{{ (first['content'] if first['content'] is string else first['content'][0]['text']) + '\\n\\n' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for part in message['content'] %}"
    "{{ '<start_of_image>' if part['type'] == 'image' else part['text'] | trim }}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the grid of the whole image and those of its crops.

    Whether there are crops is read from the processor's `images_kwargs`; arguments of a single call cannot be seen here.
    """
    import numpy as np

    side, (width, height), settings = isqrt(view.processor.image_seq_length), view.size, view.processor.images_kwargs
    boxes = [view.whole]
    if settings["do_pan_and_scan"]:
        names = ("pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops", "pan_and_scan_min_ratio_to_activate")
        where = np.indices((height, width), dtype=np.int32)  # pixels that hold their own coordinates locate a crop
        crops = view.processor.image_processor.pan_and_scan(where, *(settings[name] for name in names))
        ends = ((crop[:, 0, 0].tolist(), (crop[:, -1, -1] + 1).tolist()) for crop in crops)
        boxes += [(float(x0), float(y0), float(x1), float(y1)) for (y0, x0), (y1, x1) in ends]
    return tuple(Grid(view.index, side, side, box, tile=i) for i, box in enumerate(boxes))


def _tiny() -> tuple[Any, Any]:
    """Return a Gemma 3 of two layers, one with a sliding window, with 56 × 56 pixels and 4 × 4 tokens, and its processor."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil, Gemma3Processor

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    named |= {"bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer = small_tokenizer(["<start_of_turn>", "<end_of_turn>"], add_bos=True, **named)
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, tokenizer, chat_template=_TEMPLATE, image_seq_length=16)
    own: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 32}
    own |= {"layer_types": ["sliding_attention", "full_attention"]}
    config = Gemma3Config(
        text_config=text("gemma3_text", tokenizer, **own),
        vision_config=siglip(56),
        mm_tokens_per_image=16,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        tie_word_embeddings=False,
    )
    zero = {"model__multi_modal_projector__mm_input_projection_weight": 0.2}
    return random_model(Gemma3ForConditionalGeneration, config, **zero), processor


FAMILY = Family(
    decoder="model.language_model",
    attn_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
    resid_mid="pre_feedforward_layernorm",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    tiny=_tiny,
)
