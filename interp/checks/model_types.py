"""Tiny, randomly initialised models of the model types that transformers implements, for checks over all of them.

`model_types()` lists the types, `tiny_model(model_type)` builds one. Nothing is downloaded: a type's own configuration is taken and
every size in it is made small.
"""

from typing import Any, Final

import torch
from torch import nn

MOST_PARAMETERS: Final = 1 << 22
"""The largest model that counts as tiny, in parameters: a type whose sizes have other names is reported, not built."""

SMALL: Final[dict[str, int]] = {
    # width
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embed_dim", "word_embed_proj_dim", "dim", "embedding_size"), 32
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "dim_ff", "ffn_hidden_size", "mlp_hidden_size"), 48
    ),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("dense_intermediate_size", "out_hidden_size", "projection_dim", "lru_width"), 32),
    # depth: 4 layers, so that every kind of layer of a hybrid model occurs
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 4),
    **dict.fromkeys(("encoder_layers", "depth"), 2),
    # heads: query heads share keys and values in pairs
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "swa_num_attention_heads"), 4),
    **dict.fromkeys(
        ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "num_global_key_value_heads"), 2
    ),
    **dict.fromkeys(("head_dim", "global_head_dim", "swa_head_dim", "rotary_dim", "v_head_dim", "index_head_dim"), 8),
    # multi-head latent attention, and a sparse selection that leaves keys out of a prompt of a hundred tokens
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "index_topk", "qk_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    "index_n_heads": 2,
    # windows and chunks shorter than a prompt of a hundred tokens
    **dict.fromkeys(("sliding_window", "attention_window", "window_size"), 24),
    "attention_chunk_size": 32,
    # vocabulary and context
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 128),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length"), 512),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **dict.fromkeys(("image_token_id", "image_token_index"), 3),
    **dict.fromkeys(("video_token_id", "video_token_index"), 4),
    **dict.fromkeys(("audio_token_id", "audio_token_index"), 5),
    # experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("n_group", "num_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    "zero_expert_num": 2,
    # state space and linear attention
    **dict.fromkeys(
        ("mamba_d_state", "ssm_state_size", "state_size", "linear_key_head_dim", "linear_value_head_dim"), 8
    ),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "mamba_dt_rank", "time_step_rank", "dt_rank"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "chunk_size", "mamba_chunk_size"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    "mamba_expand": 2,
    "mamba_d_ssm": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    # the image
    "image_size": 32,
    "patch_size": 8,
    # Gemma's extras
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
}
"""Small sizes by the names that configurations give them."""

_MAY_BE_NONE = ("num_key_value_heads", "sliding_window", "n_inner", "head_dim", "pad_token_id")


def model_types() -> list[str]:
    """Return the model types of transformers that have a causal language model or a vision-language model, in alphabetical order."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    named = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    return sorted(kind for kind in named if kind in CONFIG_MAPPING)


def tiny_model(model_type: str) -> nn.Module:
    """Return a tiny model of a type with random weights, in evaluation mode, on eager attention.

    Matrices are three times as large as transformers initialises them: with the usual weights attention is nearly uniform, and a mask
    that is lost would move the logits too little to be noticed.

    Raises:
        ValueError: the type is unknown, or its configuration cannot be made small by the names in `SMALL`.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"transformers has no model_type {model_type!r}")
    config = _small(CONFIG_MAPPING[model_type])
    auto = AutoModelForImageTextToText if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING else AutoModelForCausalLM
    with torch.device("meta"):
        size = sum(p.numel() for p in auto.from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"its configuration has sizes that SMALL does not name: {size / 1e6:.0f} million parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = auto.from_config(config, attn_implementation="eager").eval().float()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.2:
                parameter.mul_(3)
    return module


def _small(kind: type) -> Any:
    """Return a configuration with every size made small, its parts included."""
    default, plain = kind(), kind().to_dict()
    sizes: dict[str, Any] = {
        n: v for n, v in SMALL.items() if n in plain and (plain[n] is not None or n in _MAY_BE_NONE)
    }
    if (
        "kv_lora_rank" in sizes
    ):  # latent attention: every head has a key of its own, of a size that two others add up to
        sizes.pop("head_dim", None)
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    rope = plain.get("rope_parameters") or {}
    if (
        "rope_theta" in rope
    ):  # where positions have time, height and width, the three share half a head; elsewhere this is not read
        sizes["rope_parameters"] = {**rope, "mrope_section": [2, 1, 1]}
    parts = {n: getattr(default, n, None) for n in getattr(kind, "sub_configs", {})}
    small = {n: _small(type(part)) for n, part in parts.items() if part is not None}
    return kind(**{n: v for n, v in sizes.items() if n not in small}, **small)
