"""InstructBLIP with a Llama or Vicuna: a Q-Former that reads the question turns an image into a few tokens."""

from typing import Any

from interp.families._tiny import SIZE, random_model, text, vision
from interp.families._tokenizer import small_tokenizer
from interp.families.base import Family
from interp.families.blip_2 import FAMILY as BLIP_2


def _prompt(images: int, question: str, system: str | None = None) -> str:
    """Return the question unchanged; the processor puts the image in front of it.

    Raises:
        ValueError: more than one image.
    """
    if images > 1:
        raise ValueError(f"InstructBLIP takes one image at a time, got {images}; ask about each in a prompt of its own")
    return f"{system} {question}" if system else question


def _tiny() -> tuple[Any, Any]:
    """Return an InstructBLIP of two layers with 28 × 28 pixels and eight queries, and its processor."""
    from transformers import (
        BlipImageProcessorPil,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    tokenizer, reader = small_tokenizer(["<image>"], add_bos=True), small_tokenizer()
    reader.padding_side = "right"
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = InstructBlipProcessor(images, tokenizer, reader, num_query_tokens=8)
    config = InstructBlipConfig(
        text_config=text("llama", tokenizer),
        vision_config=vision(28),
        qformer_config={"vocab_size": len(reader), **SIZE},
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.15,
    )
    return random_model(
        InstructBlipForConditionalGeneration, config, query_tokens=1.0
    ), processor  # equal queries otherwise


FAMILY = Family(
    decoder="language_model.model",
    vision="vision_model",
    qformer="qformer",
    image_token="image_token_index",
    grids=BLIP_2.grids,
    patches=BLIP_2.patches,
    prompt=_prompt,
    right_padded=("qformer_input_ids", "qformer_attention_mask"),
    tiny=_tiny,
)
