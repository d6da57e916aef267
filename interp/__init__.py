"""Observe and change vision-language models: attention, activations, gradients, published mitigations, benchmarks.

Start here::

    import interp

    model = interp.load("scenes")
    prompt = model.prepare(image, "Is there a chair in the image?")
    reply = interp.generate(model, prompt)
    sinks = interp.measure(model, prompt.with_response(reply), "sinks")
    capture = interp.capture(model, prompt.with_response(reply), want="pattern", grad="pattern", target=0)

The modules below hold what is passed to these functions: `interp.analysis`, `interp.interventions`, `interp.methods`, `interp.bench`,
and `interp.plot` for figures of the results. Messages are logged under the logger `interp`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.analysis.base import Analysis
    from interp.bench.base import Benchmark
    from interp.data.heads import Heads
    from interp.data.layout import Grid, Layout
    from interp.data.prompt import Capture, Prompt, Reply
    from interp.data.result import Result
    from interp.data.results import Samples
    from interp.data.tokens import EMITTING, EVERY, LAST, PREDICTING, SINKS, Segment, Tokens, tokens
    from interp.decoding.generate import generate
    from interp.experiments.effect import effect
    from interp.interventions.base import Intervention
    from interp.interventions.method import Method
    from interp.loading import load
    from interp.models.model import Model
    from interp.passes.capture import capture
    from interp.passes.measure import measure
    from interp.passes.target import Position
    from interp.runs.comparison import compare, rescore
    from interp.runs.run import run
    from interp.runs.sweep import sweep

__version__ = "0.1.0"

_NAMES = {
    "loading": ("load",),
    "models.model": ("Model",),
    "data.prompt": ("Prompt", "Reply", "Capture"),
    "data.tokens": ("Segment", "Tokens", "tokens", "EVERY", "EMITTING", "PREDICTING", "LAST", "SINKS"),
    "data.layout": ("Layout", "Grid"),
    "data.heads": ("Heads",),
    "decoding.generate": ("generate",),
    "passes.capture": ("capture",),
    "passes.measure": ("measure",),
    "passes.target": ("Position",),
    "data.result": ("Result",),
    "data.results": ("Samples",),
    "experiments.effect": ("effect",),
    "runs.run": ("run",),
    "runs.sweep": ("sweep",),
    "runs.comparison": ("compare", "rescore"),
    "analysis.base": ("Analysis",),
    "interventions.base": ("Intervention",),
    "interventions.method": ("Method",),
    "bench.base": ("Benchmark",),
}
"""The public names by the module that defines them, in the order of use."""
_MODULES = (
    *("analysis", "interventions", "methods", "bench", "experiments", "plot", "report", "runs", "testing", "world"),
    *("data", "families", "loading"),
)
"""The modules that users import from."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "EMITTING",
    "EVERY",
    "LAST",
    "PREDICTING",
    "SINKS",
    "Analysis",
    "Benchmark",
    "Capture",
    "Grid",
    "Heads",
    "Intervention",
    "Layout",
    "Method",
    "Model",
    "Position",
    "Prompt",
    "Reply",
    "Result",
    "Samples",
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
]  # literal, for type checkers


def __getattr__(name: str) -> Any:
    """Import a name or a module when it is first used, so that `import interp` is instant."""
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"interp.{_MODULE_OF[name]}"), name)
    try:
        return importlib.import_module(f"interp.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"interp.{name}":
            raise
        from interp.registry import nearest

        raise AttributeError(f"module 'interp' has no attribute {name!r}{nearest(name, __dir__())}") from None


def __dir__() -> list[str]:
    """Return the public names and modules."""
    return sorted({*__all__, *_MODULES, "__version__"})
