"""The plot of any result: by the function of this folder made for its kind, or by a general one."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor

import interp.plot
from interp.data.result import Result
from interp.plot.heatmap import heatmap
from interp.plot.style import axes_or_new, style, whole_ticks


def functions_for(kind: type[Result]) -> dict[str, Callable[..., Axes]]:
    """Return the functions of this folder whose first argument is a result of this kind, by name."""
    found: dict[str, Callable[..., Axes]] = {}
    for info in sorted(pkgutil.iter_modules(interp.plot.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{interp.plot.__name__}.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            first = next(iter(inspect.signature(function).parameters.values()), None)
            if function.__module__ == module.__name__ and first is not None and first.annotation is kind:
                found[name] = function
    return found


def picture(result: Result, ax: Axes | None = None) -> Axes:
    """Draw a result with the first function made for its kind, or else its summary array.

    A summary over layers and heads becomes a map; a summary over layers and another axis becomes lines by layer, averaged over all
    further axes.

    Raises:
        ValueError: an array with these axes cannot be drawn.
    """
    own = functions_for(type(result))
    if own:
        return next(iter(own.values()))(result, ax=ax)
    name = result.summary_field()
    axes, array = result.axes()[name], getattr(result, name)
    if not drawable(result):
        raise ValueError(
            f"there is no picture for {name} with axes {' '.join(axes) or '()'}; result.frame() gives a table"
        )
    labels = list(getattr(result, "labels", {}).get("layer", range(array.shape[0])))
    if axes[1:2] == ("head",):
        return heatmap(
            array.float().flatten(2).mean(-1) if array.ndim > 2 else array.float(), name, layers=labels, ax=ax
        )
    return _lines(array.float(), name, labels, axes[-1] if array.ndim > 1 else "", ax)


def drawable(result: Result) -> bool:
    """Return whether `picture` can draw a result: a function exists for its kind, or its summary has layers as the first axis."""
    axes = result.axes()[result.summary_field()]
    return bool(functions_for(type(result))) or axes[:1] in (("layer",), ("depth",))


def _lines(array: Tensor, name: str, layers: list[Any], each: str, ax: Axes | None) -> Axes:
    with style():
        ax = axes_or_new(ax)
        columns = array.reshape(array.shape[0], -1, array.shape[-1]).mean(1) if array.ndim > 1 else array[:, None]
        for index in range(min(columns.shape[1], 6)):
            ax.plot(
                layers, columns[:, index].tolist(), marker="o", markersize=4, label=f"{each} {index}".strip() or name
            )
        ax.set(xlabel="layer", ylabel=name)
        whole_ticks(ax)
        if each:
            ax.legend()
    return ax
