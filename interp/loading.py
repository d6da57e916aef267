"""`load`: a checked `Model` from a name, a folder or a Hugging Face model."""

import importlib.resources
import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from interp.arguments import expect_dtype
from interp.data.errors import check_type
from interp.families.base import Family, family, family_names, module_name
from interp.models.model import Model
from interp.registry import nearest
from interp.taps.install import attends
from interp.taps.restore import restored_on_error

EMBEDDED = {"scenes": "checkpoints/scenes"}
"""The models that ship with the package, by name."""

log = logging.getLogger(__name__)


def load(
    source: str | Path | nn.Module,
    *,
    processor: Any = None,
    device_map: str | dict[str, Any] | None = None,
    dtype: torch.dtype | str | None = None,
    quantization: Literal["4bit", "8bit"] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Return a model with taps at every site, in evaluation mode and with frozen parameters.

    Args:
        source: `scenes` (ships with the package), a name on the Hugging Face Hub (`owner/name`), a folder, or a transformers model.
        processor: its processor or tokenizer; by default the one saved with the weights. Required with a transformers model.
        device_map: the devices of the weights (`auto`, `cuda:0`, ...); needs accelerate.
        dtype: type of the weights (`bfloat16`, torch.float16, ...); by default float32 for the embedded model, else the checkpoint's.
        quantization: load the weights in 4 or 8 bits; needs bitsandbytes.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether to run Python code that comes with the checkpoint.

    Raises:
        FileNotFoundError: a folder without a model, an unknown name, or a hub name that cannot be fetched.
        ImportError: an extra that a setting needs is not installed.
        TypeError: a model without a language-model head or whose attention the taps cannot reach, or without a processor.
        ValueError: a model of an unknown kind that fails the checks, with the reason; weights that cannot be read.
    """
    check_type(
        source, str | Path | nn.Module, "source", "a name, a folder or a transformers model", "try load('scenes')"
    )
    check_type(device_map, str | dict | None, "device_map", "'auto', a device such as 'cuda:0', or devices by module")
    check_type(quantization, str | None, "quantization", "'4bit', '8bit' or None")
    check_type(revision, str | None, "revision", "a branch, tag or commit as text")
    check_type(trust_remote_code, bool, "trust_remote_code", "True or False")
    if isinstance(source, nn.Module):
        if not isinstance(source, PreTrainedModel) or source.get_output_embeddings() is None:
            raise TypeError(
                f"{type(source).__name__} is not a transformers model with a language-model head; "
                "load one as ...ForCausalLM or ...ForConditionalGeneration"
            )
        if processor is None:
            raise TypeError(
                "a transformers model needs its processor: load(model, processor=AutoProcessor.from_pretrained(...))"
            )
        return _checked(
            source,
            processor,
            name=getattr(source.config, "name_or_path", "") or type(source).__name__,
            revision=revision,
        )
    weights_dtype = _dtype(dtype, str(source))
    place = _place(str(source))
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    module = _weights(place, str(source), options, device_map, weights_dtype, quantization)
    found = processor if processor is not None else _processor(place, options)
    revision = revision or getattr(module.config, "_commit_hash", None)
    model = _checked(module, found, name=str(source), revision=revision)
    if processor is None:
        name = str(Path(place).resolve()) if str(source) not in EMBEDDED and Path(place).is_dir() else str(source)
        model.loaded = {"source": name, "dtype": dtype, "quantization": quantization, **options, "revision": revision}
    return model


def _place(name: str) -> str:
    if name in EMBEDDED:
        return str(importlib.resources.files("interp") / EMBEDDED[name])
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"the folder {path} contains no model: it has no config.json")
        return str(path)
    # Without a slash a name cannot be on the hub; asking it would take half a minute of retries where there is no network.
    if path.is_file() or name.startswith(("/", "./", "../", "~")) or "/" not in name:
        raise FileNotFoundError(
            f"{name!r} is neither an embedded model{nearest(name, EMBEDDED)} nor a folder with a model; give one of {sorted(EMBEDDED)}, "
            "a folder, or a name on the Hugging Face Hub with its owner, such as 'llava-hf/llava-1.5-7b-hf'"
        )
    return name


def _dtype(dtype: torch.dtype | str | None, name: str) -> torch.dtype | str:
    if dtype == "auto":
        return dtype
    return expect_dtype(dtype) or (torch.float32 if name in EMBEDDED else "auto")


def _weights(
    place: str, name: str, options: dict[str, Any], device_map: Any, dtype: Any, quantization: str | None
) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if device_map is not None:
        _needs("accelerate", "device_map", "accelerate")
    extra = {} if device_map is None else {"device_map": device_map}
    if quantization is not None:
        extra["quantization_config"] = _quantized(quantization)
    try:
        config = AutoConfig.from_pretrained(place, **options)
        auto = (
            AutoModelForImageTextToText
            if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            else AutoModelForCausalLM
        )
        return auto.from_pretrained(place, dtype=dtype, attn_implementation="sdpa", **extra, **options)
    except SafetensorError as error:
        raise ValueError(
            f"the weights of {name!r} cannot be read, perhaps because a file is incomplete: {error}. Copy or download them again."
        ) from error
    except OSError as error:
        raise FileNotFoundError(
            f"{name!r} could not be loaded: {_first_line(error)} Without a network, give a folder that contains the model, "
            f"download it to the hub's cache beforehand (hf download {name}), or use the embedded model: load('scenes')."
        ) from error
    except ValueError as error:
        if "model type" in str(error) or "Unrecognized" in str(error):
            raise ValueError(
                f"{name!r}: {_first_line(error)} Kinds with a family file: {', '.join(family_names())}."
            ) from error
        raise


def _processor(place: str, options: dict[str, Any]) -> Any:
    from transformers import AutoProcessor, AutoTokenizer

    try:
        return AutoProcessor.from_pretrained(place, **options)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"the processor of {place!r} could not be created: {error}. Some processors need torchvision "
            "(pip install torchvision, the build for your torch); or create it yourself and pass it: load(..., processor=...)"
        ) from error
    except (OSError, ValueError):
        pass
    try:
        return AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no processor or tokenizer is saved with the weights of {place!r}: {_first_line(error)} "
            "Save it there, or pass it: load(..., processor=...)"
        ) from error


def _quantized(how: str) -> Any:
    if how not in ("4bit", "8bit"):
        raise ValueError(f"quantization is '4bit' or '8bit', got {how!r}")
    _needs("bitsandbytes", f"quantization={how!r}", "quantized")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=how == "4bit", load_in_8bit=how == "8bit")


def _needs(package: str, setting: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{setting} needs {package}, which is not installed: pip install 'interp[{extra}]'")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."


def _checked(module: nn.Module, processor: Any, *, name: str, revision: str | None) -> Model:
    kind = module.config.model_type
    if any(
        getattr(c, "is_encoder_decoder", False) for c in (module.config, module.config.get_text_config(decoder=True))
    ):
        raise TypeError(
            f"{type(module).__name__} is an encoder-decoder model; only decoder-only language models are supported"
        )
    if module_name(kind) in family_names():
        with restored_on_error(module):
            return Model(module, processor, fitted(family(kind), module), name, revision)
    from interp.checks.model import check_discovered

    with restored_on_error(module):
        model = Model(module, processor, discovered(module), name, revision)
        model.notes = check_discovered(model)
    for note in model.notes:
        log.warning("%s", note)
    return model


_NORMS_BEHIND: dict[tuple[str, ...], dict[str, str]] = {
    ("pre_feedforward_layernorm", "post_feedforward_layernorm"): {
        "attn_out": "post_attention_layernorm",
        "mlp_out": "post_feedforward_layernorm",
        "resid_mid": "pre_feedforward_layernorm",
    },
    ("post_self_attn_layernorm", "post_mlp_layernorm"): {
        "attn_out": "post_self_attn_layernorm",
        "mlp_out": "post_mlp_layernorm",
    },
    ("post_feedforward_layernorm",): {
        "attn_out": "post_attention_layernorm",
        "mlp_out": "post_feedforward_layernorm",
        "resid_mid": "mlp",
    },
}
"""Where the stream passes in layers with norms behind attention and MLP, by the norms that give them away, most telling first."""


def fitted(record: Family, module: nn.Module) -> Family:
    """Return a family record that fits the decoder a model really has: with norms behind attention and MLP, what they return is added."""
    layer = module.get_submodule(record.decoder).get_submodule(record.layers)[0]
    children = dict(layer.named_children()).keys()
    paths = next((paths for norms, paths in _NORMS_BEHIND.items() if children >= set(norms)), {})
    return replace(record, **paths)  # type: ignore[arg-type]


def discovered(module: nn.Module) -> Family:
    """Return a family record for a model of unknown kind, from what its modules are called and how they attend.

    Raises:
        TypeError: no list of layers whose attention goes through transformers' AttentionInterface.
    """
    decoder = module.get_decoder()
    path = next((n for n, m in module.named_modules() if m is decoder), None)
    lists = [
        n
        for n, m in decoder.named_modules()
        if isinstance(m, nn.ModuleList) and len(m) and any(attends(x) for x in m[0].modules())
    ]
    if path is None or not lists:
        raise TypeError(
            f"no family for model_type {module.config.model_type!r}, and its attention does not go through "
            f"transformers' AttentionInterface; "
            f"add interp/families/{module_name(module.config.model_type)}.py if it does. Known: {', '.join(family_names())}"
        )
    layer = decoder.get_submodule(lists[0])[0]
    attention = next(n for n, m in layer.named_modules() if attends(m))
    children = dict(layer.named_children())
    mlp = next((n for n in ("mlp", "feed_forward", "ffn", "block_sparse_moe") if n in children), None)
    middle = next((n for n in ("post_attention_layernorm", "ln_2", "ffn_norm") if n in children), None)
    if mlp is None:
        raise TypeError(
            f"no family for model_type {module.config.model_type!r}: its layers have no MLP under a known name, "
            f"only {', '.join(children)}; add interp/families/{module_name(module.config.model_type)}.py"
        )
    image = next((n for n in ("image_token_id", "image_token_index") if hasattr(module.config, n)), None)
    record = Family(
        decoder=path, layers=lists[0], attention=attention, mlp_out=mlp, resid_mid=middle, image_token=image
    )
    return fitted(record, module)
