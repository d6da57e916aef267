"""Look inside multimodal language models, and change what you find.

model = interp.load("scenes")
prompt = model.prepare(image, "Is there a chair in the image?")
reply = interp.generate(model, prompt)
capture = interp.capture(model, prompt.with_response(reply), want={"pattern"}, grad={"pattern"}, target=0)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.data.layout import Grid, Layout
    from interp.data.prompt import Capture, Prompt, Reply
    from interp.data.result import Result
    from interp.data.tokens import EMITTING, EVERY, LAST, Segment, Tokens, tokens
    from interp.decoding.generate import generate
    from interp.experiments.effect import effect
    from interp.loading import load
    from interp.models.model import Model
    from interp.passes.capture import capture
    from interp.passes.measure import measure
    from interp.passes.target import Position
    from interp.runs.comparison import compare, rescore
    from interp.runs.run import run
    from interp.runs.sweep import sweep

__version__ = "0.1.0"

_MODULE_OF = {
    "load": "loading",
    "Model": "models.model",
    "capture": "passes.capture",
    "measure": "passes.measure",
    "Position": "passes.target",
    "generate": "decoding.generate",
    **dict.fromkeys(("Capture", "Prompt", "Reply"), "data.prompt"),
    "Result": "data.result",
    "effect": "experiments.effect",
    "run": "runs.run",
    "sweep": "runs.sweep",
    **dict.fromkeys(("compare", "rescore"), "runs.comparison"),
    **dict.fromkeys(("Grid", "Layout"), "data.layout"),
    **dict.fromkeys(("Segment", "Tokens", "tokens", "EVERY", "EMITTING", "LAST"), "data.tokens"),
}
__all__ = [
    "EMITTING",
    "EVERY",
    "LAST",
    "Capture",
    "Grid",
    "Layout",
    "Model",
    "Position",
    "Prompt",
    "Reply",
    "Result",
    "Segment",
    "Tokens",
    "capture",
    "compare",
    "effect",
    "generate",
    "load",
    "measure",
    "rescore",
    "run",
    "sweep",
    "tokens",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import interp` itself is instant."""
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"interp.{_MODULE_OF[name]}"), name)
    try:
        return importlib.import_module(f"interp.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"interp.{name}":
            raise
        raise AttributeError(f"module 'interp' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """List what there is."""
    return sorted(__all__)
