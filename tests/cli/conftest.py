"""What tests of the command line share: a command run in this process, with what it wrote and returned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from interp.cli.app import main


@dataclass(frozen=True)
class Done:
    """A command that has run."""

    code: int
    out: str
    err: str


@pytest.fixture
def interp_(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.setenv("COLUMNS", "150")

    def run(*arguments: Any) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def refused(interp_: Callable[..., Done]) -> Callable[..., None]:
    """Check that a command fails with one clear message and nothing else."""

    def check(given: tuple[Any, ...], code: int, *words: str) -> None:
        _check(interp_(*given), code, words)

    return check


def _check(done: Done, code: int, words: tuple[str, ...]) -> None:
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    message = [line for line in done.err.splitlines() if line.startswith("interp: ")]
    assert len(message) == 1, done.err
    for word in words:
        assert word in done.err
