"""The program as a whole: help, exit codes, errors, interruption."""

import os
import subprocess
import sys
import time

import pytest

import interp.cli
from interp.cli.app import main

COMMANDS = ("demo", "generate", "capture", "measure", "models")


def test_help_lists_every_command_and_ends_well(interp_) -> None:
    done = interp_("--help")
    assert done.code == 0
    for command in (*COMMANDS, "world"):
        assert f" {command} " in done.out
    assert done.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_that_name_it(interp_, command) -> None:
    done = interp_(command, "--help")
    assert done.code == 0
    assert "Examples" in done.out
    assert f"interp {command}" in done.out.split("Examples")[1]


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; t = time.process_time(); from interp.cli.app import main; c = main(['--help']); "
        "heavy = {'torch', 'transformers', 'matplotlib', 'nnsight', 'pandas', 'numpy'} & set(sys.modules); "
        "print('TOOK', time.process_time() - t, sorted(heavy), c)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, took, rest = done.stdout.splitlines()[-1].split(" ", 2)
    assert rest == "[] 0"
    assert float(took) < 0.5


@pytest.mark.parametrize(
    ("given", "word"),
    [(("frobnicate",), "No such command"), (("generate",), "Missing argument"), (("demo", "--n", "0"), "--n")],
)
def test_wrong_calls_exit_with_2(refused, given, word) -> None:
    refused(given, 2, word)


def test_no_command_shows_the_help(interp_) -> None:
    done = interp_()
    assert "Commands" in done.out + done.err


def test_interruption_exits_with_130(interp_, monkeypatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interp.cli.inputs, "image", interrupt)
    done = interp_("generate", "scene:test/0", "What do you see?")
    assert (done.code, done.out, done.err) == (130, "", "interp: interrupted\n")


def test_debug_shows_where_an_error_comes_from(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no image file"):
        main(["generate", str(tmp_path / "none.png"), "Hi", "--debug"])


def test_errors_of_no_known_kind_say_their_kind(refused, monkeypatch) -> None:
    def fail(name: str) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(interp.cli.inputs, "image", fail)
    refused(("generate", "scene:test/0", "Hi"), 1, "ZeroDivisionError: by accident", "--debug")


def test_the_process_exits_with_the_code_main_returns(tmp_path) -> None:
    code = "import sys; from interp.cli.app import main; sys.exit(main())"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", str(tmp_path / "none.png"), "Hi"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - started < 60


def test_the_version_is_that_of_the_package(interp_) -> None:
    done = interp_("--version")
    assert (done.code, done.out) == (0, f"interp {interp.__version__}\n")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "interp", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"interp {interp.__version__}\n")


def test_the_shell_can_complete_commands(interp_) -> None:
    done = interp_("--help")
    assert "--install-completion" in done.out
    environment = {**os.environ, "_INTERP_COMPLETE": "complete_bash", "COMP_WORDS": "interp me", "COMP_CWORD": "1"}
    code = "import sys; from interp.cli.app import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["measure", "methods"]


def test_the_old_name_of_an_option_works_and_warns(refused, tmp_path) -> None:
    gone = tmp_path / "gone.json"
    message = "warning: --changes is now --interventions"
    refused(("generate", "scene:test/0", "Hi", "--changes", gone), 1, message, "gone.json")
    refused(("generate", "scene:test/0", "Hi", f"--changes={gone}"), 1, message, "gone.json")


def test_the_help_of_measure_lists_the_analyses(interp_) -> None:
    assert "visual_anchors" in interp_("measure", "--help").out
