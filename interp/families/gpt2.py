"""GPT-2: learned positions, one matrix for queries, keys and values, no chat template."""

from typing import Any

from interp.families._tiny import random_model, special_ids
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family


def _tiny() -> tuple[Any, Any]:
    """Return a GPT-2 of two layers and its tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    end = "<|endoftext|>"
    tokenizer = small_tokenizer(bos_token=end, eos_token=end, unk_token=end)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.15}
    config = GPT2Config(vocab_size=len(tokenizer), **shape, **special_ids(tokenizer))
    return random_model(GPT2LMHeadModel, config), tokenizer


FAMILY = Family(
    decoder="transformer",
    layers="h",
    attention="attn",
    resid_mid="ln_2",
    attn_norm="ln_1",
    final_norm="ln_f",
    tiny=_tiny,
)
