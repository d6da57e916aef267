"""Every analysis of the package, found by itself, passes every check."""

import importlib
import inspect
import pkgutil

import pytest

import interp.analysis
from interp.analysis.base import Analysis
from interp.testing import check_analysis

MODULES = [importlib.import_module(f"interp.analysis.{m.name}") for m in pkgutil.iter_modules(interp.analysis.__path__)]
ANALYSES = [
    kind
    for module in MODULES
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Analysis) and kind is not Analysis and kind.__module__ == module.__name__
]


def test_they_are_found():
    assert len(ANALYSES) >= 19


@pytest.mark.parametrize("kind", ANALYSES, ids=lambda k: k.__name__)
def test_an_analysis_passes_every_check(model_of, kind):
    assert {c.name: c.detail for c in check_analysis(model_of("llava"), kind()) if not c.passed} == {}
