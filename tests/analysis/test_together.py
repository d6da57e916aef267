"""Every analysis of the package beside all others: one pass, and the numbers of each alone, streaming or from a file."""

import importlib
import pkgutil
from dataclasses import fields

import pytest
import torch

import interp
import interp.analysis
from interp.analysis.base import Analysis, on_capture


def analyses(gradient: str) -> list[Analysis]:
    """Return every analysis that runs with its default settings, by what its gradients are of; "" is for those without."""
    names = [f"interp.analysis.{m.name}" for m in pkgutil.iter_modules(interp.analysis.__path__)]
    modules = [importlib.import_module(n) for n in names]
    kinds = [
        k
        for m in modules
        for k in vars(m).values()
        if isinstance(k, type) and issubclass(k, Analysis) and k is not Analysis
    ]
    own = {k.__name__: k for k in kinds if k.__module__.startswith("interp.analysis.")}
    made = [k() for k in own.values() if all(f.default is not f.default_factory for f in fields(k))]
    return [a for a in made if (a.gradient if a.grad else "") == gradient]


def assert_same(one, other) -> None:
    for name in type(one).axes():
        a, b = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(
            a, b, rtol=1e-4, atol=1e-6, equal_nan=True, msg=lambda m, n=name: f"{type(one).__name__}.{n}: {m}"
        )


@pytest.mark.parametrize("gradient", ["", "position", "full"])
def test_one_pass_gives_what_each_gives_alone_and_what_a_capture_gives(model_of, picture, tmp_path, gradient) -> None:
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?", response="a small cat").marked(sink=(0,))
    every = [*analyses(""), *(analyses(gradient) if gradient else [])]
    assert len(every) > 5
    target = 1 if gradient == "full" else None
    together = interp.measure(model, prompt, *every, target=target)
    want, grad = (frozenset().union(*(getattr(a, n) for a in every)) for n in ("want", "grad"))
    rows = {"target": target, "gradient": gradient} if gradient else {}
    path = interp.capture(model, prompt, want=want, grad=grad, **rows).save(tmp_path / "capture.safetensors")
    saved = interp.Capture.load(path)
    for analysis, found in zip(every, together, strict=True):
        alone = interp.measure(model, prompt, analysis, target=target if analysis.grad else None)
        assert_same(found, alone)
        if gradient != "position":  # which keeps the rows of the reply alone
            assert_same(found, on_capture(analysis, saved, view=model.view(prompt)))


@pytest.mark.parametrize("kind", ["qwen2_vl", "instructblip"])
def test_they_run_on_other_kinds_of_models(model_of, picture, kind) -> None:
    model = model_of(kind)
    prompt = model.prepare(picture(), "What is this?", response="a small cat").marked(sink=(0,))
    for found in interp.measure(model, prompt, *analyses("")):
        assert len(found.frame())
