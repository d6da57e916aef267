"""BLIP-2 with an OPT: a Q-Former that does not read the question turns an image into a fixed number of tokens."""

from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import SIZE, random_model, special_ids, vision
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return one row of Q-Former queries: each attends to the whole image, so none has a place on it."""
    return (Grid(view.index, 1, view.config.num_query_tokens, None),)


def _patches(view: ImageView) -> Grid:
    """Return the grid of vision patches that the Q-Former attends to; the first key of its cross-attention is the class token."""
    side = view.config.vision_config.image_size // view.config.vision_config.patch_size
    return Grid(view.index, side, side, view.whole)


def _prompt(images: int, question: str, system: str | None = None) -> str:
    """Return the question in the form used by BLIP-2; the processor puts the image in front of it.

    Raises:
        ValueError: more than one image.
    """
    if images > 1:
        raise ValueError(f"BLIP-2 takes one image at a time, got {images}; ask about each in a prompt of its own")
    return f"{system + ' ' if system else ''}Question: {question} Answer:"


def _tiny() -> tuple[Any, Any]:
    """Return a BLIP-2 of two layers with 28 × 28 pixels and eight queries, and its processor."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

    tokenizer = small_tokenizer(["<image>"], bos_token="</s>", add_bos=True)
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = Blip2Processor(images, tokenizer, num_query_tokens=8)
    opt: dict[str, Any] = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "word_embed_proj_dim": 32,
    }
    opt |= {"ffn_dim": 64, "init_std": 0.15, "max_position_embeddings": 256, "vocab_size": len(tokenizer)}
    config = Blip2Config(
        text_config={"model_type": "opt", **opt, **special_ids(tokenizer)},
        vision_config=vision(28),
        qformer_config=SIZE,
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.15,
    )
    return random_model(Blip2ForConditionalGeneration, config, query_tokens=1.0), processor  # equal queries otherwise


FAMILY = Family(
    decoder="language_model.model.decoder",
    mlp_out="fc2",
    resid_mid="final_layer_norm",
    attn_norm="self_attn_layer_norm",
    final_norm="final_layer_norm",
    vision="vision_model",
    qformer="qformer",
    image_token="image_token_index",
    grids=_grids,
    patches=_patches,
    prompt=_prompt,
    tiny=_tiny,
)
