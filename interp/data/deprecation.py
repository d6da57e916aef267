"""Old keywords that go on working for one release."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_keyword(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that passes a keyword argument under its new name, with a `DeprecationWarning`.

    Raises:
        TypeError: both names were given (raised by the decorated function's call).
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(
                        f"{function.__name__}() got both {new!r} and {old!r}, its former name: give {new!r} alone"
                    )
                message = f"{function.__name__}({old}=...) is now {function.__name__}({new}=...); the old name goes with the next release"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
