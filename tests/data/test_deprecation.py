"""Old keywords go on working for one release."""

import re

import pytest

from interp.data.deprecation import renamed_keyword


@renamed_keyword("changes", "interventions")
def verb(*, interventions: tuple[int, ...] = ()) -> tuple[int, ...]:
    return interventions


def test_the_old_keyword_is_passed_under_the_new_name_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=re.escape("verb(changes=...) is now verb(interventions=...)")):
        assert verb(changes=(1, 2)) == (1, 2)  # type: ignore[call-arg]


def test_the_new_keyword_does_not_warn() -> None:
    assert verb(interventions=(3,)) == (3,)


def test_both_at_once_are_refused() -> None:
    with pytest.raises(TypeError, match="got both 'interventions' and 'changes'"):
        verb(interventions=(1,), changes=(2,))  # type: ignore[call-arg]
