"""Qwen3: queries and keys are normalised per head before the rotary embedding."""

from typing import Any

from interp.families._tiny import language_model
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family

_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _tiny() -> tuple[Any, Any]:
    """Return a Qwen3 of two layers with two query heads per key-value head, and its tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = small_tokenizer(
        ["<|im_start|>"], bos_token="<|endoftext|>", pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    return language_model(Qwen3Config, Qwen3ForCausalLM, tokenizer, _TEMPLATE, num_key_value_heads=2, head_dim=16)


FAMILY = Family(decoder="model", tiny=_tiny)
