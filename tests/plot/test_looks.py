"""What every plot looks like, against the images in baseline/; CONTRIBUTING.md says how to regenerate those.

The test file of a plot, tests/plot/test_<module>.py, gives the arguments of each of its functions in `EXAMPLES`, by `module.function`: a
tuple, or a function from the shared fixture `examples` to one.
"""

import importlib
import inspect
import pkgutil
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import interp.plot

# The font comes with matplotlib; without hinting its letters look the same on every machine.
STYLE = ("default", {"font.family": "DejaVu Sans", "text.hinting": "no_hinting"})
TOLERANCE = 3.0  # root mean square of the difference of pixels, of 255

HERE = Path(__file__)
EXAMPLES = {
    name: given
    for file in sorted(HERE.parent.glob("test_*.py"))
    if file != HERE
    for name, given in runpy.run_path(str(file)).get("EXAMPLES", {}).items()
}


def public() -> dict[str, Callable[..., Axes]]:
    """Return every public function of interp.plot that draws one kind of picture, as `module.function`."""
    modules = [importlib.import_module(f"interp.plot.{m.name}") for m in pkgutil.iter_modules(interp.plot.__path__)]
    return {
        f"{module.__name__.rsplit('.', 1)[1]}.{name}": function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation is Axes
        and name not in {"axes_or_new", "picture"}  # the axes that others draw on; the choice among the others
    }


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.mpl_image_compare(style=STYLE, tolerance=TOLERANCE, savefig_kwargs={"dpi": 60})
def test_look(name, examples) -> Figure:
    given = EXAMPLES[name](examples) if callable(EXAMPLES[name]) else EXAMPLES[name]
    return public()[name](*given).get_figure(root=True)


def test_every_public_function_is_drawn() -> None:
    assert set(public()) - set(EXAMPLES) == set(), "give EXAMPLES in the test file of each of these plots"
    assert set(EXAMPLES) == set(public())


def test_every_baseline_belongs_to_a_function() -> None:
    kept = {p.stem.removeprefix("test_look_") for p in (HERE.parent / "baseline").glob("*.png")}
    assert kept == set(EXAMPLES)
