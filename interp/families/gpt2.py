"""GPT-2: learned positions, one matrix for queries, keys and values, no chat template."""

from typing import Any

from interp.families.base import Family


def tiny() -> tuple[Any, Any]:
    """Return a GPT-2 of two layers and its tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    shape: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.15}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = GPT2Config(vocab_size=len(tokenizer), **shape, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval(), tokenizer


FAMILY = Family(
    decoder="transformer",
    layers="h",
    attention="attn",
    resid_mid="ln_2",
    attn_norm="ln_1",
    final_norm="ln_f",
    tiny=tiny,
)
