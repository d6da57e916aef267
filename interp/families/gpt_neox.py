"""GPT-NeoX and Pythia: attention and MLP read the same residual stream in parallel, so there is no site between them."""

from typing import Any

from interp.families._tiny import language_model
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family


def _tiny() -> tuple[Any, Any]:
    """Return a GPT-NeoX of two layers and its tokenizer."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    end = "<|endoftext|>"
    tokenizer = small_tokenizer(bos_token=end, eos_token=end, unk_token=end)
    return language_model(GPTNeoXConfig, GPTNeoXForCausalLM, tokenizer, max_position_embeddings=256)


FAMILY = Family(decoder="gpt_neox", attention="attention", resid_mid=None, final_norm="final_layer_norm", tiny=_tiny)
