"""PaliGemma: the image, squeezed into a square, becomes one grid of SigLIP patches at the very start of the prompt."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families.base import Family, ImageView


def grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; it sees all of it."""
    side = isqrt(view.processor.image_seq_length)
    return (Grid(view.index, side, side, view.whole),)


def prompt(images: int, question: str, system: str | None) -> str:
    """Return placeholders and question; the processor puts `<bos>` between them and a line break at the end.

    The checkpoints have no chat template and know no system prompt: one is put before the question.
    """
    text = question if system is None else f"{system} {question}"
    return "<image>" * images + text if images else f"<bos>{text}\n"


def tiny() -> tuple[Any, Any]:
    """Return a PaliGemma of two layers that sees 28 × 28 pixels as 4 × 4 patches, and its processor."""
    import torch
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    from interp.families._tokenizer import small_tokenizer

    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.15}
    text = {"model_type": "gemma", "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 8, **shape}
    text |= {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 2, "vision_use_head": False, **shape}
    config = PaliGemmaConfig(
        text_config=text,
        vision_config={"image_size": 28, "patch_size": 7, **vision},
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PaliGemmaForConditionalGeneration(config).eval(), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=grids,
    prompt=prompt,
    response_type=1,
    tiny=tiny,
)
