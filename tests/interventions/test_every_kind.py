"""What every intervention must do, on tiny models of five families: see `interp.testing.interventions.check_intervention`.

A new kind of intervention brings its settings in its own test file, tests/interventions/test_<noun>.py, as `EXAMPLES`.
"""

import runpy
from pathlib import Path

import pytest
import torch

from interp.data.heads import Heads
from interp.data.tokens import EMITTING, EVERY, LAST, SINKS, Segment
from interp.interventions.attention import (
    MaskAttention,
    RedistributePattern,
    ScalePattern,
    ScaleScores,
    ShrinkPattern,
)
from interp.interventions.balance import RaiseScores, ReweightPattern
from interp.interventions.base import from_dict, kinds
from interp.interventions.heads import AblateHeads, ScaleHeads, ScaleQueries
from interp.interventions.stream import AddVector, ProjectOut, SetDims
from interp.interventions.values import MeanValues, SetValues, ZeroValues
from interp.testing.interventions import check_intervention

USER, RESPONSE = Segment.USER, Segment.RESPONSE
AFTER = USER | RESPONSE
SOME = Heads(((0, 1), (1, 3)))
NOWHERE = Segment.PAD  # a choice that may rightly take nothing


def _vectors(model):
    return torch.linspace(-1, 1, model.dim)


KINDS = {
    "mask": lambda m: (MaskAttention(SINKS, AFTER), MaskAttention(NOWHERE, AFTER)),
    "mask heads": lambda m: (MaskAttention(USER, EMITTING, heads=SOME), MaskAttention(NOWHERE, EMITTING, heads=SOME)),
    "scores": lambda m: (ScaleScores(USER, 2.0, AFTER), ScaleScores(USER, 1.0, AFTER)),
    "absolute scores": lambda m: (ScaleScores(0, 3.0, mode="abs"), ScaleScores(0, 1.0, mode="abs")),
    "pattern": lambda m: (
        ScalePattern(USER, 0.3, EMITTING, renormalize="row"),
        ScalePattern(USER, 1.0, EMITTING, renormalize="row"),
    ),
    "segments": lambda m: (ScalePattern(0, 0.0, renormalize="segment"), ScalePattern(0, 1.0, renormalize="segment")),
    "above": lambda m: (ScalePattern(USER, 0.0, EMITTING, above=0.05), ScalePattern(USER, 0.0, EMITTING, above=1.5)),
    "shrink": lambda m: (ShrinkPattern(0.7), ShrinkPattern(0.0)),
    "redistribute": lambda m: (RedistributePattern(0, USER, 0.9), RedistributePattern(0, USER, 0.0)),
    "reweight": lambda m: (ReweightPattern(USER, 0, 0.1, 3.0, 0.01), ReweightPattern(USER, 0, 1.0, 1.0)),
    "raise": lambda m: (RaiseScores(0, 1.5, EMITTING), RaiseScores(0, 0.0, EMITTING)),
    "zero values": lambda m: (ZeroValues(SINKS), ZeroValues(NOWHERE)),
    "mean values": lambda m: (MeanValues(SINKS), MeanValues(NOWHERE)),
    "set values": lambda m: (SetValues(0, torch.ones(m.layers, m.kv_heads, m.head_dim)), None),
    "ablate": lambda m: (AblateHeads(SOME), None),
    "ablate to the mean": lambda m: (AblateHeads(SOME, mode="mean", at="response"), None),
    "ablate by another": lambda m: (AblateHeads(SOME, mode="resample", seed=3), None),
    "ablate at the step": lambda m: (AblateHeads(SOME, at="step"), None),
    "heads": lambda m: (ScaleHeads(SOME, 3.0), ScaleHeads(SOME, 1.0)),
    "queries": lambda m: (ScaleQueries(((2.0,) * m.heads,) * m.layers), ScaleQueries(((1.0,) * m.heads,) * m.layers)),
    "dims": lambda m: (SetDims(SINKS, (0, 3)), SetDims(NOWHERE, (0, 3))),
    "dims to the mean": lambda m: (SetDims(0, (0, 3), "mean", layers=(0,)), SetDims(NOWHERE, (0, 3), "mean")),
    "dims to a value": lambda m: (SetDims(AFTER, (1,), "value", (5.0,)), SetDims(NOWHERE, (1,), "value", (5.0,))),
    "vector": lambda m: (AddVector(_vectors(m), 2.0, AFTER), AddVector(_vectors(m), 0.0, AFTER)),
    "project": lambda m: (ProjectOut(_vectors(m)[None], queries=AFTER), None),
}
"""A strong and a neutral setting of every kind, each from a model."""
for _path in sorted(Path(__file__).parent.glob("test_*.py")):
    if "\nEXAMPLES" in _path.read_text(encoding="utf-8"):
        KINDS |= runpy.run_path(str(_path))["EXAMPLES"]


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "internvl", "instructblip", "qwen2"])
@pytest.mark.parametrize("name", KINDS)
def test_it_conforms(model_of, name, kind):
    model = model_of(kind)
    strong, neutral = KINDS[name](model)
    failed = [f"{c.name}: {c.detail}" for c in check_intervention(model, strong, neutral) if not c.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_does_not_turn_it_off(model_of, picture, name):
    model = model_of("llava", torch.bfloat16)
    failed = [
        c
        for c in check_intervention(model, KINDS[name](model)[0])
        if not c.passed and c.name in ("strong", "first token")
    ]
    assert not failed, failed


@pytest.mark.parametrize("name", KINDS)
def test_what_holds_no_tensor_survives_being_written_down(model_of, name):
    strong, _ = KINDS[name](model_of("llava"))
    if not isinstance(strong, SetValues | AddVector | ProjectOut):
        assert from_dict(strong.to_dict()) == strong


def test_no_kind_is_left_out(model_of):
    tried = {type(c).__name__ for make in KINDS.values() for c in make(model_of("llava")) if c is not None}
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
