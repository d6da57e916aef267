"""What a type checker knows about a user's script."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
from typing import assert_type

import interp
from interp.analysis.base import Analysis, on_capture
from interp.analysis.budget import Budget, SegmentShares
from interp.analysis.massive import Massive, MassiveTable
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.prompt import Capture, Prompt, Reply
from interp.data.result import Result
from interp.data.results import Samples
from interp.interventions.attention import MaskAttention
from interp.models.model import Model
from interp.passes.memory import Estimate

model = interp.load("scenes")
prompt = model.prepare(text="Is there a chair?")
assert_type(model, Model)
assert_type(prompt, Prompt)

assert_type(interp.measure(model, prompt, Sinks()), SinkTable)
assert_type(interp.measure(model, prompt, Sinks(), Budget()), tuple[SinkTable, SegmentShares])
assert_type(
    interp.measure(model, prompt, Budget(), Sinks(), Massive(), target=0, progress=False),
    tuple[SegmentShares, SinkTable, MassiveTable],
)
four = interp.measure(model, prompt, Sinks(), Sinks(), Sinks(), Budget())
assert_type(four, tuple[SinkTable, SinkTable, SinkTable, SegmentShares])
five = interp.measure(model, prompt, Sinks(), Sinks(), Sinks(), Sinks(), Budget())
assert_type(five, tuple[SinkTable, SinkTable, SinkTable, SinkTable, SegmentShares])

assert_type(interp.measure(model, [prompt], Sinks()), Samples[SinkTable])
assert_type(interp.measure(model, [prompt], Sinks(), Budget()), tuple[Samples[SinkTable], Samples[SegmentShares]])
assert_type(interp.measure(model, [prompt], Sinks())[0], SinkTable)

assert_type(interp.capture(model, prompt), Capture)
assert_type(interp.capture(model, prompt, estimate=True), Estimate)
assert_type(on_capture(Sinks(), interp.capture(model, prompt)), SinkTable)
assert_type(interp.generate(model, prompt, MaskAttention(keys=0)), Reply)
assert_type(interp.generate(model, [prompt]), list[Reply])


def total(analysis: Analysis[Result]) -> Result:
    return interp.measure(model, prompt, analysis)


total(Sinks())  # an analysis of a kind of result is one of any result
"""


def check(script: Path) -> "subprocess.CompletedProcess[str]":
    """Return what mypy says of a script, with the project's own settings and cache."""
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_a_script_keeps_the_type_of_every_result(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = check(script)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_lost_type_and_a_class_in_place_of_an_analysis_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    wrong = "assert_type(interp.measure(model, prompt, Budget()), SinkTable)\ninterp.measure(model, prompt, Sinks)\n"
    script.write_text(SCRIPT + wrong, encoding="utf-8")
    done = check(script)
    lines = SCRIPT.count("\n")
    assert f'script.py:{lines + 1}: error: Expression is of type "SegmentShares", not "SinkTable"' in done.stdout
    assert f"script.py:{lines + 2}: error: " in done.stdout
