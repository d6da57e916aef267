"""SmolVLM: Idefics 3 made small; images are cut the same way."""

from types import SimpleNamespace
from typing import Any

from interp.families.base import Family
from interp.families.idefics3 import grids, shapes

TEMPLATE = (
    "{{ '<|im_start|>' }}{% for message in messages %}{{ message['role'] | capitalize + ':' }}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else (' ' if loop.first else '') + part['text'] }}"
    "{% endfor %}{% endif %}{{ '<end_of_utterance>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def tiny() -> tuple[Any, Any]:
    """Return a SmolVLM of two layers on tiles of 42 × 42 pixels and 3 × 3 tokens, and its processor."""
    import torch
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
        SmolVLMProcessor,
    )
    from transformers.models.smolvlm import processing_smolvlm

    from interp.families._processor import without_video
    from interp.families._tokenizer import small_tokenizer

    names: dict[str, Any] = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    names |= {"end_of_utterance_token": "<end_of_utterance>", "global_image_token": "<global-img>"}
    places = [f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4)]
    tokenizer = small_tokenizer(places, bos_token="<|im_start|>", eos_token="<end_of_utterance>", **names)
    images = SmolVLMImageProcessorPil(size={"longest_edge": 126}, max_image_size={"longest_edge": 42})
    made = {"image_processor": images, "tokenizer": tokenizer, "image_seq_len": 9, "chat_template": TEMPLATE}
    spelling = processing_smolvlm.num2words
    try:
        processing_smolvlm.num2words = spelling or str  # asked for when made, used for videos only
        processor = without_video(SmolVLMProcessor, **made)
    finally:
        processing_smolvlm.num2words = spelling
    processor.video_processor = SimpleNamespace(
        num_frames=None, fps=None
    )  # its chat template looks there, video or not
    config = SmolVLMConfig(image_token_id=processor.image_token_id, **shapes(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmolVLMForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.text_model",
    vision="model.vision_model",
    image_token="image_token_id",
    grids=grids,
    tiny=tiny,
)
