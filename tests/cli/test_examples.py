"""Every example in the help and on the page of commands is a call that the program understands."""

import importlib
import pkgutil
import shlex
from pathlib import Path

import pytest
import typer

import interp.cli
from interp.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
FILES = [importlib.import_module(f"interp.cli.{f.name}") for f in pkgutil.iter_modules(interp.cli.__path__)]
HELP = [text for file in (interp.cli, *FILES) if (text := vars(file).get("EXAMPLES"))]


def lines() -> list[str]:
    every = "\n".join([*HELP, PAGE.read_text(encoding="utf-8")]).splitlines()
    return sorted({line.strip() for line in every if line.strip().startswith("interp ")})


def test_there_are_examples_of_every_command() -> None:
    commands = typer.main.get_command(app).commands
    assert {line.split()[1] for line in lines()} == set(commands)


@pytest.mark.parametrize("line", lines())
def test_an_example_is_understood(line) -> None:
    command, arguments = typer.main.get_command(app), shlex.split(line)[1:]
    while getattr(command, "commands", None):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if "--help" not in arguments:
        assert command.make_context(line, list(arguments)).params
