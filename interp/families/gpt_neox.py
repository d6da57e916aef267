"""GPT-NeoX and Pythia: attention and MLP read the same residual stream side by side, so nothing lies between them."""

from typing import Any

from interp.families.base import Family


def tiny() -> tuple[Any, Any]:
    """Return a GPT-NeoX of two layers and its tokenizer."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "initializer_range": 0.15,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = GPTNeoXConfig(vocab_size=len(tokenizer), **shape, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPTNeoXForCausalLM(config).eval(), tokenizer


FAMILY = Family(decoder="gpt_neox", attention="attention", resid_mid=None, final_norm="final_layer_norm", tiny=tiny)
