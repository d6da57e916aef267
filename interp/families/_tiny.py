"""Tiny models with random weights: the shared sizes, and what builds a model from them.

Every family file has a function `tiny` that returns a small model of its kind and a real processor, without a download. The sizes that
they share are here, so that a family file states only what differs. transformers is imported when a model is built, not before.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from interp.families._tokenizer import small_tokenizer

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    # Larger than usual, so that random weights give patterns and logits that differ from uniform ones.
    "initializer_range": 0.15,
}
"""The sizes of a tiny decoder, vision tower or Q-Former under their usual names."""
QWEN_SPECIAL = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def random_model(model_class: type, config: Any, **zeros: float) -> Any:
    """Return a model in evaluation mode with random weights, the same in every call.

    Args:
        model_class: the class of the model.
        config: its configuration.
        zeros: parameters that a new model has at zero, by their dotted names with `__` for the dots, and the standard deviation
            that they get instead.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
        for name, std in zeros.items():
            torch.nn.init.normal_(model.get_parameter(name.replace("__", ".")), std=std)
        return model


def language_model(
    config_class: type, model_class: type, tokenizer: Any, template: str | None = None, **settings: Any
) -> tuple[Any, Any]:
    """Return a tiny language model and its tokenizer.

    Args:
        config_class: the class of its configuration.
        model_class: the class of the model.
        tokenizer: its tokenizer, which sets the size of the vocabulary and the special tokens.
        template: the chat template, where the kind has one.
        settings: sizes that differ from `SIZE`, and more of them.
    """
    tokenizer.chat_template = template
    config = config_class(vocab_size=len(tokenizer), **{**SIZE, **special_ids(tokenizer), **settings})
    return random_model(model_class, config), tokenizer


def special_ids(tokenizer: Any) -> dict[str, Any]:
    """Return the ids of the tokens that begin, end and pad a text, under their names in a configuration."""
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def text(model_type: str, tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """Return the configuration of a tiny text model inside a vision-language model."""
    return {"model_type": model_type, "vocab_size": len(tokenizer), **SIZE, **special_ids(tokenizer), **settings}


def vision(image_size: int, **settings: Any) -> dict[str, Any]:
    """Return the configuration of a tiny vision tower with patches of 7 × 7 pixels."""
    return {"image_size": image_size, "patch_size": 7, **SIZE, **settings}


def siglip(image_size: int) -> dict[str, Any]:
    """Return the configuration of a tiny SigLIP tower."""
    return vision(image_size, model_type="siglip_vision_model", vision_use_head=False)


def clip(image_size: int) -> dict[str, Any]:
    """Return the configuration of a tiny CLIP tower: three layers, because LLaVA takes the output of the last but one."""
    return vision(image_size, model_type="clip_vision_model", num_hidden_layers=3)


def without_video(processor_class: type, **settings: Any) -> Any:
    """Return a processor without a video processor, which transformers requires and which in turn requires torchvision.

    Args:
        processor_class: the real processor class, which is also the class of the result.
        settings: all arguments of its constructor except the video processor.
    """
    processor: Any = object.__new__(processor_class)
    # The constructor looks up the class that a video processor should have; the look-up fails without torchvision.
    processor.check_argument_for_proper_class = lambda name, argument: type(argument)
    processor.__init__(video_processor=None, **settings)
    del processor.check_argument_for_proper_class
    return processor


def qwen_vl(
    classes: tuple[type, type, type],
    template: str,
    patch: int,
    tower: Mapping[str, Any],
    rope: Mapping[str, Any] = MappingProxyType({}),
    **decoder: Any,
) -> tuple[Any, Any]:
    """Return a tiny vision-language model of Qwen's and its processor, with a token for every 2 × 2 patches, at most 40 tokens.

    Args:
        classes: the classes of configuration, model and processor.
        template: the chat template.
        patch: the side of a patch in pixels.
        tower: settings of the vision tower beyond the shared ones.
        rope: settings of the rotary embedding beyond the shared ones.
        decoder: settings of the decoder beyond the shared ones.
    """
    from transformers import Qwen2VLImageProcessorPil

    config_class, model_class, processor_class = classes
    tokenizer = small_tokenizer(QWEN_SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    area = {"shortest_edge": 4 * (2 * patch) ** 2, "longest_edge": 40 * (2 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, size=area)
    processor = without_video(processor_class, image_processor=images, tokenizer=tokenizer, chat_template=template)
    ids = {**special_ids(tokenizer), "bos_token_id": None}
    rotary = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], **rope}
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    config = config_class(
        text_config={**SIZE, **sizes, "rope_parameters": rotary, **ids, **decoder},
        vision_config={"depth": 2, "num_heads": 4, "patch_size": patch, "initializer_range": 0.15, **tower},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        **ids,
    )
    return random_model(model_class, config), processor
