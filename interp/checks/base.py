"""One line of a table of checks, and how checks are run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Check:
    """What came of one check.

    Args:
        name: its name in the table.
        passed: whether the property holds.
        detail: why not: the kind of the error and its message.
    """

    name: str
    passed: bool
    detail: str = ""


def run_checks(checkers: Mapping[str, Callable[..., None]], *given: Any) -> list[Check]:
    """Return the outcome of every check, in order. A check fails by raising; one that cannot run has failed too.

    Args:
        checkers: functions by the name of what they check.
        given: what each of them is called with.
    """
    done = []
    for name, checker in checkers.items():
        try:
            checker(*given)
            done.append(Check(name, True))
        except Exception as error:  # noqa: BLE001  # whatever goes wrong is the check's result
            done.append(Check(name, False, f"{type(error).__name__}: {error}".strip()))
    return done
