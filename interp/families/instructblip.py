"""InstructBLIP with a Llama or Vicuna: a Q-Former that reads the question turns an image into a few tokens."""

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
    """Return the question as it is; the processor puts the image in front of it.

    Raises:
        ValueError: more than one image.
    """
    if images > 1:
        raise ValueError(f"InstructBLIP takes one image at a time, got {images}; ask about each in a prompt of its own")
    return f"{system} {question}" if system else question


def tiny() -> tuple[Any, Any]:
    """Return an InstructBLIP of two layers that sees 28 × 28 pixels through eight queries, and its processor."""
    import torch
    from transformers import (
        BlipImageProcessorPil,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    from interp.families._tokenizer import small_tokenizer

    tokenizer, reader = small_tokenizer(["<image>"], add_bos=True), small_tokenizer()
    reader.padding_side = "right"
    images = BlipImageProcessorPil(size={"height": 28, "width": 28})
    processor = InstructBlipProcessor(images, tokenizer, reader, num_query_tokens=8)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    shape |= {"initializer_range": 0.15}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = InstructBlipConfig(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **shape, **ids},
        vision_config={"image_size": 28, "patch_size": 7, **shape},
        qformer_config={"vocab_size": len(reader), **shape},
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.15,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InstructBlipForConditionalGeneration(config).eval()
        torch.nn.init.normal_(model.query_tokens)  # zero by default, which makes all queries one
        return model, processor


FAMILY = Family(
    decoder="language_model.model",
    vision="vision_model",
    qformer="qformer",
    image_token="image_token_index",
    grids=grids,
    patches=patches,
    prompt=prompt,
    right_padded=("qformer_input_ids", "qformer_attention_mask"),
    tiny=tiny,
)
