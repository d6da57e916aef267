"""Finished runs, parsed: refusals and labels."""

import pytest

from interp.methods.spear import Spear
from interp.runs.comparison import compare
from interp.runs.execution import execute


def test_a_run_without_a_reply_is_refused(asked, letters, tmp_path) -> None:
    run = execute(asked(letters(n=2, lost=("0",))), None, tmp_path)
    with pytest.raises(
        ValueError, match=r"none of the 2 samples .* has a reply; the error of the first: FileNotFoundError: no image 0"
    ):
        compare([run], benchmark=letters(n=2))


def test_two_runs_of_one_method_have_names_of_their_own(asked, letters, tmp_path) -> None:
    what = asked(letters(n=4))
    runs = [execute(what, m, tmp_path) for m in (None, Spear(enhance=2.0), Spear(enhance=3.0))]
    assert list(compare(runs, benchmark=letters(n=4)).runs) == ["greedy", "spear", "spear (2)"]
