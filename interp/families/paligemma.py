"""PaliGemma: the image, squeezed into a square, becomes one grid of SigLIP patches at the very start of the prompt."""

from math import isqrt
from typing import Any

from interp.data.layout import Grid
from interp.families._tiny import random_model, siglip, text
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family, ImageView


def _grids(view: ImageView) -> tuple[Grid, ...]:
    """Return the one grid of an image; it covers the whole image."""
    side = isqrt(view.processor.image_seq_length)
    return (Grid(view.index, side, side, view.whole),)


def _prompt(images: int, question: str, system: str | None) -> str:
    """Return placeholders and question; the processor puts `<bos>` between them and a line break at the end.

    The checkpoints have neither a chat template nor a system prompt: a given system prompt is put before the question.
    """
    text = question if system is None else f"{system} {question}"
    return "<image>" * images + text if images else f"<bos>{text}\n"


def _tiny() -> tuple[Any, Any]:
    """Return a PaliGemma of two layers with 28 × 28 pixels and 4 × 4 patches, and its processor."""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    tokenizer = small_tokenizer(bos_token="<bos>", eos_token="<eos>", image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        text_config=text("gemma", tokenizer, num_key_value_heads=1, head_dim=8),
        vision_config=siglip(28),
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return random_model(PaliGemmaForConditionalGeneration, config), processor


FAMILY = Family(
    decoder="model.language_model",
    vision="model.vision_tower",
    image_token="image_token_id",
    grids=_grids,
    prompt=_prompt,
    response_type=1,
    tiny=_tiny,
)
