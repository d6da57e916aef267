"""Checks run in order, and one that raises has failed with its reason."""

from interp.checks.base import Check, run_checks


def positive(number):
    """A number is positive."""
    if number <= 0:
        raise AssertionError(f"{number} is not positive")


def reciprocal(number):
    """A number has a reciprocal."""
    1 / number


def test_a_failure_carries_the_kind_of_the_error_and_its_message():
    assert run_checks({"positive": positive, "reciprocal": reciprocal}, 2) == [
        Check("positive", True),
        Check("reciprocal", True),
    ]
    assert run_checks({"positive": positive, "reciprocal": reciprocal}, 0) == [
        Check("positive", False, "AssertionError: 0 is not positive"),
        Check("reciprocal", False, "ZeroDivisionError: division by zero"),
    ]
