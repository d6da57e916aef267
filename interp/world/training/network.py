"""The untrained network, from real Hugging Face classes, and the resting state planted in it."""

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from interp.world.objects import IMAGE_SIZE
from interp.world.processor import CONTEXT, IMAGE_TOKENS, PATCH_SIZE
from interp.world.training.config import NetworkConfig, SinkConfig

HEAD_RANGE = 0.02
QUERY_BIAS = 6.0
START = 8.0


def build_network(
    tokenizer: PreTrainedTokenizerFast, network: NetworkConfig, sink: SinkConfig, *, seed: int = 0
) -> LlavaForConditionalGeneration:
    """Return a LLaVA with a CLIP tower and a Llama decoder, initialised from the seed.

    Output projections are scaled by 1/√(2 · layers); with `sink.planted` every head after the writer starts at
    rest on `<s>`.
    """
    config = LlavaConfig(
        vision_config=_vision_config(network),
        text_config=_text_config(tokenizer, network),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for block in model.model.language_model.layers:
            block.self_attn.o_proj.weight /= (2 * network.layers) ** 0.5
            block.mlp.down_proj.weight /= (2 * network.layers) ** 0.5
        model.lm_head.weight *= HEAD_RANGE / network.initializer_range
    if sink.planted:
        plant_rest(model, sink)
    return model


def _text_config(tokenizer: PreTrainedTokenizerFast, network: NetworkConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=network.width,
        intermediate_size=network.inner,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        num_key_value_heads=network.heads,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        attention_bias=True,
        tie_word_embeddings=False,
        initializer_range=network.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _vision_config(network: NetworkConfig) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=network.width,
        intermediate_size=3 * network.width,
        num_hidden_layers=network.vision_layers,
        num_attention_heads=network.vision_heads,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=network.width,
    )


@torch.no_grad()
def plant_rest(model: LlavaForConditionalGeneration, sink: SinkConfig) -> None:
    """Plant the resting state: heads that attend to `<s>`, which carries a massive activation and no value.

    `<s>` embeds to one residual dimension that nothing else writes to. Up to the writer nothing reads it either,
    but for one neuron of the writer's MLP, which writes it back at `sink.size`. In every later block the queries
    have a constant bias towards it in the slowest rotary pair, where no other key has a part, scaled so that its
    score is `sink.score`, and the values read nothing from it. Training is free to change all of it.
    """
    decoder = model.model.language_model
    config = decoder.config
    width, head_dim, start = config.hidden_size, config.head_dim, config.bos_token_id
    decoder.embed_tokens.weight[:, sink.dim] = 0
    decoder.embed_tokens.weight[start] = 0
    decoder.embed_tokens.weight[start, sink.dim] = START
    model.model.multi_modal_projector.linear_2.weight[sink.dim] = 0
    slow = torch.arange(config.num_attention_heads) * head_dim + head_dim // 2 - 1
    for index, block in enumerate(decoder.layers):
        attention, mlp = block.self_attn, block.mlp
        for written in (attention.o_proj, mlp.down_proj):
            written.weight[sink.dim] = 0
        attention.v_proj.weight[:, sink.dim] = 0
        if index <= sink.writer:
            for read in (mlp.gate_proj, mlp.up_proj):
                read.weight[:, sink.dim] = 0
        else:
            attention.q_proj.bias[slow] = QUERY_BIAS
            attention.k_proj.weight[:, sink.dim] = 0
            attention.k_proj.weight[slow] = 0
            attention.k_proj.weight[slow, sink.dim] = sink.score * head_dim**0.5 / (QUERY_BIAS * width**0.5)
    mlp = decoder.layers[sink.writer].mlp
    for read in (mlp.gate_proj, mlp.up_proj):
        read.weight[0] = 0
        read.weight[0, sink.dim] = 1
    mlp.down_proj.weight[:, 0] = 0
    mlp.down_proj.weight[sink.dim, 0] = sink.size / width
