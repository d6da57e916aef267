"""Mistral: a Llama whose attention is limited to a sliding window, if the configuration sets one."""

from typing import Any

from interp.families._tiny import language_model
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family

_TEMPLATE = (
    "{{ bos_token }}{% set said = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set said.system = message['content'] + '\n\n' %}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + said.system + message['content'] + ' [/INST]' }}"
    "{% set said.system = '' %}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def _tiny() -> tuple[Any, Any]:
    """Return a Mistral of two layers with a window of 16 tokens and two query heads per key-value head, and its tokenizer."""
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = small_tokenizer(["[INST]", "[/INST]"], add_bos=True)
    return language_model(
        MistralConfig, MistralForCausalLM, tokenizer, _TEMPLATE, num_key_value_heads=2, sliding_window=16
    )


FAMILY = Family(decoder="model", tiny=_tiny)
