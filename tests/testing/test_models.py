"""The checks of models as users call them, and the page that tabulates them."""

import pytest

from interp.checks.base import Check
from interp.families.base import Family
from interp.testing.models import check_family, conformance_page, sample_prompts


def test_sample_prompts_differ_in_length(model_of):
    one, other = sample_prompts(model_of("llava"))
    assert len(one) != len(other)
    assert one.images


def test_a_family_without_a_tiny_model_says_so(monkeypatch):
    monkeypatch.setattr("interp.families.base.family", lambda kind: Family("model"))
    with pytest.raises(LookupError, match=r"the family llama has no tiny model: give Family.tiny, or call check_model"):
        check_family("llama")


def test_the_page_has_a_row_a_family_and_a_column_a_check():
    passed, broken = Check("generation", True), Check("generation", False, "AssertionError: late\nmore")
    page = conformance_page(
        {("llama", "float32"): [Check("neutral", True), passed], ("gpt2", "bfloat16"): [Check("neutral", True), broken]}
    )
    assert "- **neutral**: Interventions that copy the value at every site leave the logits unchanged" in page
    assert (
        "| model type | precision | neutral | generation |\n|---|---|---|---|\n| llama | float32 | ✓ | ✓ |\n| gpt2 | bfloat16 | ✓ | ✗ |"
        in page
    )
    assert page.endswith("## What failed\n\n- gpt2 bfloat16, generation: AssertionError: late\n")


def test_a_page_without_failures_lists_none():
    assert "What failed" not in conformance_page({("llama", "float32"): [Check("neutral", True)]})
