"""Llama 2 and 3, Vicuna and other language models of that kind."""

from typing import Any

from interp.families.base import Family

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def tiny() -> tuple[Any, Any]:
    """Return a Llama of two layers with two query heads to a key-value head, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], add_bos=True)
    tokenizer.chat_template = TEMPLATE
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.15,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(vocab_size=len(tokenizer), **shape, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval(), tokenizer


FAMILY = Family(decoder="model", tiny=tiny)
