"""The command `interp`: results go to stdout, everything else to stderr.

Exit codes: 0 success, 1 an error, 2 a wrong call, 130 interrupted.
"""

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from interp.cli import ablate, capture, compare, demo, generate, measure, methods, models, report, runs, sweep, world

EXAMPLES = """[bold]Examples[/bold]

interp demo

interp generate scene:test/3 "Describe the image in detail."

interp measure scene:test/3 "Describe the image in detail." sinks budget --generate

interp report scene:test/3 "Describe the image in detail." --method spear

interp generate --help
"""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="interp",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EXAMPLES,
)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=generate.EXAMPLES)(generate.generate)
app.add_typer(ablate.app, name="ablate")
app.command(epilog=capture.EXAMPLES)(capture.capture)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=measure.EXAMPLES)(measure.measure)
app.command(epilog=methods.EXAMPLES)(methods.methods)
app.command(epilog=models.EXAMPLES)(models.models)
app.command(epilog=report.EXAMPLES)(report.report)
app.add_typer(runs.app, name="runs")
app.command(epilog=sweep.EXAMPLES)(sweep.sweep)
app.add_typer(world.app, name="world")


def _print_version(asked: bool) -> bool:
    if asked:
        import interp

        typer.echo(f"interp {interp.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def interp_(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; valid anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Observe and change vision-language models: attention, activations, gradients, published mitigations, benchmarks."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the words after `interp`; those of this process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [_renamed(argument) for argument in given if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _shown
            code = _code(app(given, prog_name="interp", standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a wrong call, with a message by typer
            return _refused(error)
        if debug:
            raise
        typer.echo(f"interp: {_message(error)} (--debug shows the traceback)", err=True)
        return 1
    if code == INTERRUPTED:
        typer.echo("interp: interrupted", err=True)
    return code


def _renamed(argument: str) -> str:
    """Return an argument with the option that was renamed under its new name; the old one works for one release."""
    if argument.partition("=")[0] != "--changes":
        return argument
    typer.echo("warning: --changes is now --interventions; the old name will be removed in the next release", err=True)
    return argument.replace("--changes", "--interventions", 1)


def _refused(error: Any) -> int:
    usage = error.ctx.get_usage() if getattr(error, "ctx", None) is not None else ""
    typer.echo("\n".join(line for line in (usage, f"interp: {error.format_message()}") if line), err=True)
    return int(error.exit_code)


def _code(result: Any) -> int:
    return result if isinstance(result, int) else 0


def _message(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    explained = isinstance(error, (OSError, ValueError, LookupError, MemoryError, TypeError))
    return str(error) if explained else f"{type(error).__name__}: {error}"


def _shown(message: Any, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {message}", err=True)
