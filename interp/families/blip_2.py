"""BLIP-2 with an OPT: a Q-Former that knows nothing of the question turns an image into a fixed number of tokens."""

from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return one row of Q-Former queries: each may look at the whole image, so none has a place on it."""
    return (Grid(view.index, 1, view.config.num_query_tokens, None),)


def patches(view: ImageView) -> Grid:
    """Return the grid of vision patches that the Q-Former looks at; the first key of its cross-attention is no patch."""
    side = view.config.vision_config.image_size // view.config.vision_config.patch_size
    return Grid(view.index, side, side, view.whole)


def prompt(images: int, question: str, system: str | None = None) -> str:
    """Return the question in the form BLIP-2 was asked in; the processor puts the image in front of it.

    Raises:
        ValueError: more than one image.
    """
    if images > 1:
        raise ValueError(f"BLIP-2 takes one image at a time, got {images}; ask about each in a prompt of its own")
    return f"{system + ' ' if system else ''}Question: {question} Answer:"


def tiny() -> tuple[Any, Any]:
    """Return a BLIP-2 of two layers that sees 28 × 28 pixels through eight queries, and its processor."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(["<image>"], bos_token="</s>", add_bos=True)
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = Blip2Processor(images, tokenizer, num_query_tokens=8)
    shape: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    wide = {**shape, "intermediate_size": 64, "initializer_range": 0.15}
    text: dict[str, Any] = {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.15, **shape}
    text |= {"max_position_embeddings": 256, "vocab_size": len(tokenizer)}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    config = Blip2Config(
        text_config=text,
        vision_config={"image_size": 28, "patch_size": 7, **wide},
        qformer_config=wide,
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.15,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Blip2ForConditionalGeneration(config).eval()
        torch.nn.init.normal_(model.query_tokens)  # zero by default, which makes all queries one
        return model, processor


FAMILY = Family(
    decoder="language_model.model.decoder",
    mlp_out="fc2",
    resid_mid="final_layer_norm",
    attn_norm="self_attn_layer_norm",
    final_norm="final_layer_norm",
    vision="vision_model",
    qformer="qformer",
    image_token="image_token_index",
    grids=grids,
    patches=patches,
    prompt=prompt,
    tiny=tiny,
)
