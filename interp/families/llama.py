"""Llama 2 and 3, Vicuna and other language models of that kind."""

from typing import Any

from interp.families._tiny import language_model
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family

_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def tiny_llama() -> tuple[Any, Any]:
    """Return a Llama of two layers with two query heads per key-value head, and its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = small_tokenizer(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], add_bos=True)
    return language_model(LlamaConfig, LlamaForCausalLM, tokenizer, _TEMPLATE, num_key_value_heads=2)


FAMILY = Family(decoder="model", tiny=tiny_llama)
