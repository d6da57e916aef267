"""What the rows of a run depend on, as JSON data: model, samples, method, options and versions.

`interp.runs.spec.RunSpec.identity` collects these entries, and their hash (`hash_identity`) names the run directory, so that another
setting is another directory. `to_json` turns any setting into JSON data, or refuses it.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.bench.base import Benchmark, Sample
from interp.data.images import read_image
from interp.interventions.base import Intervention
from interp.interventions.method import Method, parts
from interp.models.model import Model
from interp.runs.code import code_hash, tensor_bytes

GREEDY = "greedy"
"""The name of the baseline, the model without a method."""
HASH_DIGITS = 12
"""Hexadecimal digits of the hash in the name of a run directory."""
_IGNORED = ("_name_or_path", "name_or_path", "init_inputs", "transformers_version", "padding", "truncation")
"""Entries of a configuration that record its place, its author or its last use; they change no reply."""


def hash_identity(identity: Mapping[str, Any]) -> str:
    """Return the hash that names a run; equal identities have equal hashes."""
    return _hash(json.dumps(identity, sort_keys=True).encode())[:HASH_DIGITS]


def name_directory(model: str, benchmark: str, method: str, identity: Mapping[str, Any]) -> str:
    """Return the name of a run directory: model, benchmark, method and hash."""
    words = (re.sub(r"[^a-z0-9.+]+", "_", Path(w).name.lower()).strip("_.")[:40] for w in (model, benchmark, method))
    return "-".join([*words, hash_identity(identity)])


def model_identity(model: Model) -> dict[str, Any]:
    """Return what determines the replies of a model: hashes of weights, configuration and processor, the dtype and the device."""
    return {
        "weights": model.derived("runs.weights", lambda: _weights(model)),
        "configuration": model.derived("runs.configuration", lambda: _configuration(model)),
        "processor": model.derived("runs.processor", lambda: _processor(model)),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
    }


def hash_samples(benchmark: Benchmark, samples: Sequence[Sample]) -> str:
    """Return the hash of samples and the bytes of their images; an image that cannot be read counts as missing."""
    images: dict[str, str] = {}
    for sample in samples:
        if sample.image not in images:
            images[sample.image] = _image(benchmark, sample)
    entries = [[to_json(asdict(s), f"sample {s.id}"), images[s.image]] for s in samples]
    return _hash(json.dumps(entries, sort_keys=True).encode())


def name_method(method: Method | None) -> str:
    """Return the name of a method; `greedy` for none."""
    return GREEDY if method is None else "+".join(type(m).__name__.lower() for m in parts(method))


def describe_settings(method: Method | None) -> str:
    """Return the settings of a method that differ from the published ones, as text."""
    said = []
    for one in [] if method is None else parts(method):
        default = {f.name: f.default for f in fields(one)}  # type: ignore[arg-type]
        said += [f"{n}={v}" for n, v in one.settings().items() if v != default[n]]
    return ", ".join(said)


def method_identity(method: Method | None) -> list[dict[str, Any]]:
    """Return the single methods with all their settings; an empty list for none.

    Raises:
        TypeError: a setting has no JSON form, such as a function.
    """
    return [_named(m, m.settings()) for m in ([] if method is None else parts(method))]


def intervention_identity(given: Method | Intervention) -> Any:
    """Return a method or an intervention as JSON data.

    Raises:
        TypeError: a setting has no JSON form.
    """
    return method_identity(given) if isinstance(given, Method) else to_json(given, type(given).__name__)


def benchmark_identity(benchmark: Benchmark) -> dict[str, Any]:
    """Return a benchmark with all its settings."""
    return _named(benchmark, benchmark.settings())


def package_versions() -> dict[str, str]:
    """Return the versions of interp, torch and transformers."""
    import transformers

    return {"interp": version("interp"), "torch": torch.__version__, "transformers": transformers.__version__}


def describe_machine() -> dict[str, Any]:
    """Return name, system, Python version and GPU of this machine."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"node": platform.node(), "system": platform.platform(), "python": platform.python_version(), "gpu": gpu}


def to_json(value: Any, what: str) -> Any:  # noqa: PLR0911  # one line a kind
    """Return a value as JSON data.

    Raises:
        TypeError: the value has no JSON form, such as a function; names `what` it belongs to.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        # 2.0 and 2 are the same setting, so they must have the same hash.
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (Path, torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(n): to_json(v, what) for n, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        listed = [to_json(v, what) for v in value]
        return listed if isinstance(value, (list, tuple)) else sorted(listed, key=json.dumps)
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "sha256": _hash(tensor_bytes(value))}
    if isinstance(value, Intervention):
        return {**value.to_dict(), **_code(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return _named(value, {f.name: getattr(value, f.name) for f in fields(value)})
    raise TypeError(
        f"{what} holds {value!r}, a {type(value).__name__}, which has no JSON form, so the run could not be identified later; "
        "use a class whose settings are numbers, strings and lists instead"
    )


def _named(thing: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": type(thing).__name__.lower(), "settings": to_json(settings, type(thing).__name__), **_code(thing)}


def _code(thing: Any) -> dict[str, str]:
    """Return the hash of the code of an object whose class is not from this package, whose version covers its own code."""
    kind = type(thing)
    return {} if kind.__module__.partition(".")[0] == "interp" else {"code": code_hash(kind)}


def _image(benchmark: Benchmark, sample: Sample) -> str:
    try:
        image = benchmark.image(sample)
        if image is None:
            return "none"
        if isinstance(image, (str, Path)):
            return _hash(Path(image).read_bytes())
        picture = read_image(image)
        return _hash(f"{picture.size}".encode() + picture.tobytes())
    except (OSError, ValueError, TypeError):
        return "missing"


def _weights(model: Model) -> str:
    """Return the hash of every parameter and buffer; for a tensor on the meta device, of its name and shape only."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(b"" if tensor.is_meta else tensor_bytes(tensor))
    return digest.hexdigest()


def _configuration(model: Model) -> str:
    """Return the hash of the model's configuration and its generation defaults."""
    return _settings_hash([model.config.to_dict(), model.module.generation_config.to_dict()])


def _processor(model: Model) -> str:
    """Return the hash of chat template, image processor and tokenizer."""
    processor, tokenizer = model.processor, model.tokenizer
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    acting = (processor, getattr(processor, "image_processor", None))
    settings = [p.to_dict() for p in acting if p is not None and callable(getattr(p, "to_dict", None))]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = json.loads(fast.to_str()) if fast is not None else sorted(tokenizer.get_vocab().items())
    return _settings_hash([template, settings, words])


def _settings_hash(settings: Any) -> str:
    return _hash(json.dumps(_without_ignored(settings), sort_keys=True, default=lambda o: type(o).__name__).encode())


def _without_ignored(value: Any) -> Any:
    """Return settings without the ignored entries, at every depth."""
    if isinstance(value, Mapping):
        return {str(n): _without_ignored(v) for n, v in value.items() if n not in _IGNORED}
    if isinstance(value, (list, tuple)):
        return [_without_ignored(v) for v in value]
    return value


def _hash(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()
