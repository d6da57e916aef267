"""The hash of code: the same for what does the same, another for what does something else."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interp.interventions.values import ZeroValues
from interp.runs import identity
from interp.runs.code import code_hash

SOURCE = '''
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, final

import numpy as np
import torch

from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.attention import ScaleScores
from interp.interventions.method import Method

GAIN = 1.5
WORDS = {"cat", "dog", "owl", "fox", "hen"}
LAYERS = (1, 2)
SHIFT = torch.tensor([1.0, 2.0])
SPREAD = np.array([1.0, 3.0])
MORE = ScaleScores(keys=0, by=2.0)
gain = 7
unused = 3


def once(x, plus=1):
    return {i: x for i in range(3) if str(i) not in {"a", "b", "c", "d"}}, plus


@cache
def kept(x):
    return 5


def turned(function):
    def inside(*given):
        return function(*given)
    return inside


@turned
def deep(x):
    return x + 11


@final
@dataclass(frozen=True)
class Twice(Intervention):
    site: ClassVar[str] = "z"

    def __call__(self, value, here: Here):
        return value * 2


@final
@dataclass(frozen=True)
class Mine(Method):
    """Mine."""

    gain: float = 1.0
    limit: ClassVar[int] = 4

    @property
    def half(self):
        return 0.5

    @staticmethod
    def third():
        return 3

    def again(self):
        return Mine, self.again, self.gain

    def interventions(self, model):
        names = [w for w in WORDS if w in {"one", "two", "three", "four"}]
        try:
            picked = [GAIN * i for i in LAYERS if (lambda: once(i))()]
        except ValueError:
            picked = [kept(1)]
        return (Twice(), MORE, SHIFT, SPREAD, *names, *picked, deep(1), torch.nn.functional.softmax)
'''
MATTERS = [
    ("value * 2", "value * 3"),
    ("GAIN = 1.5", "GAIN = 1.6"),
    ('"owl", "fox"', '"owl", "bear"'),
    ("LAYERS = (1, 2)", "LAYERS = (1, 3)"),
    ("range(3)", "range(4)"),
    ("plus=1", "plus=2"),
    ("return 5", "return 6"),
    ("tensor([1.0, 2.0])", "tensor([1.0, 2.5])"),
    ("array([1.0, 3.0])", "array([1.0, 3.5])"),
    ("by=2.0", "by=3.0"),
    ("x + 11", "x + 12"),
    ("return function(*given)", "return not function(*given)"),
    ("return 0.5", "return 0.25"),
    ("    return 3", "    return 4"),
    ('"one", "two"', '"one", "six"'),
    ("except ValueError", "except KeyError"),
    ("functional.softmax", "functional.relu"),
    ("limit: ClassVar[int] = 4", "limit: ClassVar[int] = 5"),
    ('site: ClassVar[str] = "z"', 'site: ClassVar[str] = "v"'),
    ("self.again, self.gain", "self.again, self.half"),
]
DOES_NOT = [
    ("GAIN = 1.5", "# a note\n\n\nGAIN = 1.5  # and another"),
    ("unused = 3", "unused = 4"),
    ("gain = 7", "gain = 8"),
    ('"cat", "dog"', '"dog", "cat"'),
    ("model):", "model: object) -> object:"),
]


def made(folder: Path, source: str = SOURCE, name: str = "mine.py") -> type:
    return ran(folder / name, source)["Mine"]


def ran(path: Path, source: str) -> dict[str, Any]:
    path.write_text(source, encoding="utf-8")
    return runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize(("old", "new"), MATTERS)
def test_code_that_does_something_else_has_another_hash(tmp_path, old, new) -> None:
    assert SOURCE.count(old) == 1
    assert code_hash(made(tmp_path)) != code_hash(made(tmp_path, SOURCE.replace(old, new)))


@pytest.mark.parametrize(("old", "new"), DOES_NOT)
def test_code_that_does_the_same_has_the_same_hash(tmp_path, old, new) -> None:
    assert old in SOURCE
    there = tmp_path / "elsewhere"
    there.mkdir()
    assert code_hash(made(tmp_path)) == code_hash(made(there, SOURCE.replace(old, new), "other.py"))


def test_a_file_that_is_edited_after_import_does_not_change_the_hash(tmp_path) -> None:
    kind = made(tmp_path)
    before = code_hash(kind)
    (tmp_path / "mine.py").write_text(SOURCE.replace("value * 2", "value * 3"), encoding="utf-8")
    assert code_hash(kind) == before


def test_code_without_a_source_file_has_a_hash() -> None:
    hashes = []
    for source in (SOURCE, SOURCE.replace("value * 2", "value * 3")):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, "<stdin>", "exec"), names)  # noqa: S102  # as a prompt runs what is typed in
        hashes.append(code_hash(names["Mine"]))
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_finds_the_same_hash(tmp_path, seed) -> None:
    here = code_hash(made(tmp_path))
    script = "import runpy, sys; from interp.runs.code import code_hash; "
    script += "print(code_hash(runpy.run_path(sys.argv[1], run_name='__main__')['Mine']))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "mine.py")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.stdout.split() == [here]


def test_a_method_of_a_notebook_is_known_by_its_code(tmp_path) -> None:
    pytest.importorskip("IPython")
    cells = [
        SOURCE,
        SOURCE.replace("value * 2", "value * 3"),
        SOURCE,
        "def kept(x):\n    return 9",  # the class is as it was, and does something else
    ]
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
from interp.runs import identity
shell = InteractiveShell()
for cell in {cells!r}:
    shell.run_cell(cell).raise_error()
    print(identity.method_identity(shell.user_ns["Mine"]())[0]["code"])
"""
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    first, changed, again, other = done.stdout.split()
    assert first == again
    assert len({first, changed, other}) == 3


def test_a_run_of_changed_code_is_another_run(asked, tmp_path) -> None:
    what = asked()
    one, other = (made(tmp_path, s)() for s in (SOURCE, SOURCE.replace("value * 2", "value * 3")))
    assert identity.hash_identity(what.identity(one)) != identity.hash_identity(what.identity(other))
    assert identity.hash_identity(what.identity(one)) == identity.hash_identity(what.identity(made(tmp_path)()))


def test_an_intervention_of_ones_own_carries_its_code(tmp_path) -> None:
    sources = (SOURCE, SOURCE.replace("value * 2", "value * 3"))
    found = [identity.intervention_identity(ran(tmp_path / "mine.py", s)["Twice"]()) for s in sources]
    assert found[0]["kind"] == "Twice"
    assert found[0]["code"] != found[1]["code"]
    assert "code" not in identity.intervention_identity(ZeroValues(0))
