"""What every intervention must do, on tiny models of five families: see `interp.testing.interventions.check_intervention`.

The settings to check are the `EXAMPLES` of the test file of each kind: by name, a function from a model to a strong and a neutral
setting (None where there is none).
"""

import runpy
from pathlib import Path

import pytest
import torch

from interp.data.tokens import EVERY, LAST
from interp.interventions.attention import ScaleScores
from interp.interventions.base import from_dict, kinds
from interp.interventions.stream import AddVector, ProjectOut
from interp.interventions.values import SetValues
from interp.testing.interventions import check_intervention

SETTINGS = {}
for _path in sorted(Path(__file__).parent.glob("test_*.py")):
    if "\nEXAMPLES" in _path.read_text(encoding="utf-8"):
        SETTINGS |= runpy.run_path(str(_path))["EXAMPLES"]


@pytest.mark.parametrize(
    "kind",
    ["llava", "qwen2_5_vl", *(pytest.param(k, marks=pytest.mark.slow) for k in ("internvl", "instructblip", "qwen2"))],
)
@pytest.mark.parametrize("name", SETTINGS)
def test_it_conforms(model_of, name, kind):
    model = model_of(kind)
    strong, neutral = SETTINGS[name](model)
    failed = [f"{c.name}: {c.detail}" for c in check_intervention(model, strong, neutral) if not c.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_bfloat16_does_not_turn_it_off(model_of, picture, name):
    model = model_of("llava", torch.bfloat16)
    failed = [
        c
        for c in check_intervention(model, SETTINGS[name](model)[0])
        if not c.passed and c.name in ("strong", "first token")
    ]
    assert not failed, failed


@pytest.mark.parametrize("name", SETTINGS)
def test_what_holds_no_tensor_survives_being_written_down(model_of, name):
    strong, _ = SETTINGS[name](model_of("llava"))
    if not isinstance(strong, SetValues | AddVector | ProjectOut):
        assert from_dict(strong.to_dict()) == strong


def test_no_kind_is_left_out(model_of):
    tried = {type(c).__name__ for make in SETTINGS.values() for c in make(model_of("llava")) if c is not None}
    ours = {n for n, k in kinds().items() if k.__module__.startswith("interp.interventions")}
    assert ours - tried == {
        "Apply",
        "CorrectLogits",
        "ReplaceFrom",
    }  # tried on their own, and with the methods that use them


def test_selections_of_the_end_follow_the_end(model_of):
    model = model_of("qwen2")
    failed = [
        c
        for c in check_intervention(model, ScaleScores(0, 3.0, LAST, mode="abs"), ScaleScores(0, 1.0, LAST))
        if not c.passed
    ]
    assert {c.name for c in failed} <= {
        "cached = uncached",
        "causal",
    }  # the last row of a step is a row of the reply later on
    assert EVERY.from_end is False
    assert LAST.from_end is True
