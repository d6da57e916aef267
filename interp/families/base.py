"""The record of a model family, and the lookup of families by `model_type`. The folder is the registry: one file per `model_type`."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import interp.families
from interp.data.layout import Grid


@final
@dataclass(frozen=True)
class ImageView:
    """One processed image: what a family needs to compute which pixels each image token covers.

    Args:
        processor: the model's processor.
        config: the model's configuration.
        inputs: the processed inputs of the whole prompt (a batch of one).
        index: index of the image in the prompt.
        size: width and height of the original image in pixels.
    """

    processor: Any
    config: Any
    inputs: Mapping[str, Any]
    index: int
    size: tuple[int, int]

    @property
    def whole(self) -> tuple[float, float, float, float]:
        """The pixel box of the entire original image."""
        return (0.0, 0.0, float(self.size[0]), float(self.size[1]))


@final
@dataclass(frozen=True)
class Family:
    """Where the parts of a kind of model are, and how an image becomes tokens.

    Paths are attribute paths: `decoder`, `vision` and `qformer` from the top of the model; `attention`, `mlp`, `attn_out`,
    `mlp_out` and `resid_mid` from a decoder layer.

    Args:
        decoder: the module that owns the decoder layers.
        layers: the list of decoder layers, from the decoder.
        attention: the attention module of a layer.
        attn_out: the module whose output the attention adds to the residual stream; the attention itself by default.
        mlp_out: the module whose output the MLP adds to the residual stream.
        resid_mid: the norm that reads the residual stream between attention and MLP; None if the two run in parallel.
        attn_norm: the norm of a layer that the attention reads through.
        final_norm: the norm of the decoder that the output head reads through.
        vision: the module below which every attention belongs to the vision tower.
        qformer: the module below which every attention belongs to the Q-Former.
        image_token: the attribute of the configuration that holds the id of the image placeholder; None for a language model.
        grids: the blocks of image tokens of one image, in token order.
        patches: for a Q-Former, whose tokens have no place on the image, the grid of the patches that it attends to.
        prompt: the text for a number of images, a question and a system prompt, if the processor has no chat template.
        right_padded: names of inputs that are padded on the right in a batch although they are token sequences.
        response_type: the token type of a teacher-forced reply, if the model distinguishes token types.
        tiny: builds a small model of this kind with random weights and its real processor, without a download.
    """

    decoder: str
    layers: str = "layers"
    attention: str = "self_attn"
    attn_out: str | None = None
    mlp_out: str = "mlp"
    resid_mid: str | None = "post_attention_layernorm"
    attn_norm: str = "input_layernorm"
    final_norm: str = "norm"
    vision: str | None = None
    qformer: str | None = None
    image_token: str | None = None
    grids: Callable[[ImageView], tuple[Grid, ...]] | None = None
    patches: Callable[[ImageView], Grid] | None = None
    prompt: Callable[[int, str, str | None], str] | None = None
    right_padded: tuple[str, ...] = ()
    response_type: int = 0
    tiny: Callable[[], tuple[Any, Any]] | None = None


def family_names() -> list[str]:
    """Return the model types that have a family file."""
    return sorted(
        m.name
        for m in pkgutil.iter_modules(interp.families.__path__)
        if m.name != "base" and not m.name.startswith("_")
    )


def module_name(model_type: str) -> str:
    """Return the name of a model type's family file (`blip_2` for `blip-2`)."""
    return model_type.replace("-", "_")


def family(model_type: str) -> Family:
    """Return the family record of a model type.

    Raises:
        LookupError: the model type has no family file.
    """
    name = module_name(model_type)
    if name not in family_names():
        raise LookupError(
            f"no family for model_type {model_type!r}; known: {', '.join(family_names())}. "
            f"Add interp/families/{name}.py with a FAMILY record, or pass the model object to interp.load, which discovers its parts."
        )
    return importlib.import_module(f"interp.families.{name}").FAMILY
