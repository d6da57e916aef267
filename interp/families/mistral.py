"""Mistral: a Llama whose attention reaches only so far back, where the configuration gives a sliding window."""

from typing import Any

from interp.families.base import Family

TEMPLATE = (
    "{{ bos_token }}{% set said = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set said.system = message['content'] + '\n\n' %}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + said.system + message['content'] + ' [/INST]' }}"
    "{% set said.system = '' %}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def tiny() -> tuple[Any, Any]:
    """Return a Mistral of two layers that looks 16 tokens back, two query heads a key-value head, and its tokenizer."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(["[INST]", "[/INST]"], add_bos=True)
    tokenizer.chat_template = TEMPLATE
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.15,
        "sliding_window": 16,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = MistralConfig(vocab_size=len(tokenizer), **shape, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MistralForCausalLM(config).eval(), tokenizer


FAMILY = Family(decoder="model", tiny=tiny)
