"""Qwen2 and Qwen2.5: biases on queries, keys and values."""

from typing import Any

from interp.families.base import Family

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny() -> tuple[Any, Any]:
    """Return a Qwen2 of two layers with two query heads to a key-value head, and its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(
        ["<|im_start|>"], bos_token="<|endoftext|>", pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
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
    config = Qwen2Config(vocab_size=len(tokenizer), **shape, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).eval(), tokenizer


FAMILY = Family(decoder="model", tiny=tiny)
