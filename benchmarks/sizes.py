"""The models that are measured: the embedded one, and others with random weights."""

from typing import Any

import numpy as np
import torch
from torch import nn

import interp
from interp.families.base import family

DECODERS = {
    "small": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 16, "num_attention_heads": 8},
    "mid": {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16, "num_attention_heads": 16},
    "llava7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""The decoders of the LLaVA models with random weights."""
QWEN7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
}
SIZES = ("embedded", *DECODERS, "qwen7b")
PICTURE = np.random.default_rng(0).integers(0, 255, (336, 336, 3), dtype=np.uint8)
QUESTION = "Describe what can be seen in the image, please."
TOKENS = 640
"""How long the prompts of the LLaVA models are, with 576 image tokens."""


def parts(size: str, device: str = "cpu") -> tuple[nn.Module, Any]:
    """Return a Hugging Face model and its processor: float32 on a CPU, bfloat16 on an accelerator."""
    if size == "embedded":
        model = interp.load("scenes")
        module = type(model.module)(model.config)
        module.load_state_dict(model.module.state_dict(), strict=False)
        return module.to(device).eval(), model.processor
    return qwen(device) if size == "qwen7b" else llava(size, device)


def loaded(size: str, device: str = "cpu") -> interp.Model:
    """Return the model ready to be looked into."""
    if size == "embedded":
        return interp.load("scenes")
    module, processor = parts(size, device)
    return interp.load(module, processor=processor)


def llava(size: str, device: str = "cpu", **changed: int) -> tuple[nn.Module, Any]:
    """Return a LLaVA-1.5 with random weights whose images are 24 × 24 tokens; `changed` are entries of the decoder's configuration."""
    from transformers import LlavaForConditionalGeneration

    small, processor = family("llava").tiny()
    config = small.config
    sizes = {**DECODERS[size], **changed}
    heads = sizes["num_attention_heads"]
    sizes |= {"num_key_value_heads": heads, "head_dim": sizes["hidden_size"] // heads}
    for name, value in {**sizes, "max_position_embeddings": 4096, "initializer_range": 0.02}.items():
        setattr(config.text_config, name, value)
    config.vision_config.image_size, config.vision_config.patch_size, config.image_seq_length = 336, 14, 576
    processor.patch_size = 14
    processor.image_processor.size = {"shortest_edge": 336}
    processor.image_processor.crop_size = {"height": 336, "width": 336}
    return made(LlavaForConditionalGeneration, config, device), processor


def qwen(device: str = "cpu") -> tuple[nn.Module, Any]:
    """Return a Qwen2.5-VL of 7 B parameters with random weights behind the tiny model's vision tower."""
    small, processor = family("qwen2_5_vl").tiny()
    config = small.config
    for name, value in {**QWEN7B, "initializer_range": 0.02}.items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * QWEN7B["num_hidden_layers"]
    config.text_config.rope_parameters["mrope_section"] = [16, 24, 24]
    config.vision_config.out_hidden_size = QWEN7B["hidden_size"]
    return made(type(small), config, device), processor


def made(kind: type, config: Any, device: str) -> nn.Module:
    """Return a model with random weights, made where it is to run."""
    torch.manual_seed(0)
    config.architectures = [kind.__name__]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            return kind(config).eval()
    finally:
        torch.set_default_dtype(before)


def asked(
    model: interp.Model, *, response: str | None = None, reply: int | None = None, length: int | None = None
) -> interp.Prompt:
    """Return a question about a random picture.

    Args:
        model: the model.
        response: what is teacher-forced.
        reply: how many tokens are teacher-forced instead, the same one again and again.
        length: about how many tokens the question has, filled up by repeating a word.
    """
    words = QUESTION
    if length is not None:
        bare, more = (len(model.prepare(PICTURE, "x" + " x" * n)) for n in (0, 8))
        words = "x" + " x" * max(0, 8 * (length - bare) // (more - bare))
    prompt = model.prepare(PICTURE, words, response=response)
    if reply is None:
        return prompt
    token = model.tokenizer("chair", add_special_tokens=False).input_ids[0]
    return prompt.with_response([token] * reply)
