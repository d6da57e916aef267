"""The checks of methods as users call them."""

from interp.checks.change import DECODING, EDITS
from interp.methods.deco import Deco
from interp.methods.vaf import Vaf
from interp.testing import check_method


def test_a_method_of_interventions_is_checked_like_one(model_of):
    done = check_method(model_of("llava"), Vaf())
    assert [c.name for c in done] == [*EDITS, *DECODING]
    assert {c.name: c.detail for c in done if not c.passed} == {}


def test_a_method_without_interventions_is_checked_in_decoding_only(model_of):
    assert {c.name for c in check_method(model_of("llava"), Deco())} <= {*EDITS, *DECODING}
