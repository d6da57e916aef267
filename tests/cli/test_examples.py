"""Every example in the help and on the page of commands is a call that the program understands."""

import shlex
from pathlib import Path

import pytest
import typer

from interp.cli import EXAMPLES, app, capture, compare, demo, generate, measure, methods, models, runs, sweep

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
HELP = (EXAMPLES, *(module.EXAMPLES for module in (capture, compare, demo, generate, measure, methods, models, runs, sweep)))


def lines() -> list[str]:
    every = "\n".join([*HELP, PAGE.read_text(encoding="utf-8")]).splitlines()
    return sorted({line.strip() for line in every if line.strip().startswith("interp ")})


def test_there_are_examples_of_every_command() -> None:
    assert {line.split()[1] for line in lines()} >= {"demo", "generate", "capture", "measure", "models", "world"}


@pytest.mark.parametrize("line", lines())
def test_an_example_is_understood(line) -> None:
    command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
    while getattr(command, "commands", None):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if "--help" not in arguments:
        assert command.make_context(line, list(arguments)).params
