"""Errors about arguments: what was expected, what was given, and what to do instead."""

from typing import Any, get_args


def check_type(given: Any, kinds: Any, argument: str, expected: str, advice: str = "") -> Any:
    """Return an argument of one of some types.

    Raises:
        TypeError: another type; booleans do not count as numbers.
    """
    accepted = get_args(kinds) or (kinds,)
    if isinstance(given, kinds) and not (type(given) is bool and bool not in accepted):  # a bool is an int in Python
        return given
    raise wrong_type(argument, expected, given, advice)


def wrong_type(argument: str, expected: str, given: Any, advice: str = "") -> TypeError:
    """Return the error that names an argument, what it accepts, what was given, and what to do."""
    if isinstance(given, type):
        what, advice = f"the class {given.__name__}", f"give an instance: {given.__name__}()"
    elif given is None:
        what = "None"
    else:
        what = f"{type(given).__name__} {given!r:.80}"
    return TypeError(f"{argument}: expected {expected}, got {what}" + (f"; {advice}" if advice else ""))
