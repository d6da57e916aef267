"""Look inside multimodal language models, and change what you find.

model = interp.load("scenes")
prompt = model.prepare(image, "Is there a chair in the image?")
reply = interp.generate(model, prompt)
capture = interp.capture(model, prompt.with_response(reply), want={"pattern"}, grad={"pattern"}, target=0)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.data import EMITTING, EVERY, LAST, Grid, Layout, Segment, Tokens, tokens
    from interp.generation import generate
    from interp.loading import load
    from interp.model import Model
    from interp.passes import capture, measure
    from interp.prompt import Capture, Prompt, Reply
    from interp.result import Result
    from interp.runs.comparison import compare, rescore
    from interp.runs.run import run
    from interp.runs.sweep import sweep
    from interp.target import Position

__version__ = "0.1.0"

_WHERE = {
    "load": "loading",
    "Model": "model",
    "capture": "passes",
    "measure": "passes",
    "Position": "target",
    "generate": "generation",
    "Capture": "prompt",
    "Prompt": "prompt",
    "Reply": "prompt",
    "Result": "result",
    "run": "runs.run",
    "sweep": "runs.sweep",
    **dict.fromkeys(("compare", "rescore"), "runs.comparison"),
    **dict.fromkeys(("Segment", "Layout", "Grid", "Tokens", "tokens", "EVERY", "EMITTING", "LAST"), "data"),
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
    if name in _WHERE:
        return getattr(importlib.import_module(f"interp.{_WHERE[name]}"), name)
    try:
        return importlib.import_module(f"interp.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"interp.{name}":
            raise
        raise AttributeError(f"module 'interp' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """List what there is."""
    return sorted(__all__)
