import pytest
import torch

from interp.data.tokens import EMITTING, LAST
from interp.interventions.function import Apply
from interp.passes.capture import capture


def double(value, here):
    return value * 2


def test_it_acts_where_it_was_told_to(model_of):
    model = model_of("llama")
    prompt = model.prepare(text="What is this?")
    clean, edited = (
        capture(model, prompt, want={"z"}, interventions=c) for c in ((), [Apply("z", double, layers=[1])])
    )
    torch.testing.assert_close(edited.z[1], clean.z[1] * 2)
    torch.testing.assert_close(edited.z[0], clean.z[0], rtol=0, atol=0)


def test_the_function_sees_the_rows_it_named_and_no_others(model_of):
    model, seen = model_of("llama"), []

    def look(value, here):
        seen.append((value.shape[2], here.rows.tolist()))
        return value * 0.5

    prompt = model.prepare(text="What is this?").with_response("A chair")
    capture(model, prompt, want=set(), interventions=[Apply("pattern", look, layers=[0], queries=EMITTING)])
    rows = list(prompt.layout.positions(EMITTING))
    assert seen == [(len(rows), rows)]


def test_rows_not_named_by_one_change_are_not_shown_to_it_by_another(model_of):
    """Two changes of one site: each sees what the other asked for too, so a change must ask `here` which rows are its own."""
    model, seen = model_of("llama"), {}
    prompt = model.prepare(text="What is this?")

    def look(name):
        def note(value, here):
            seen[name] = here.rows.tolist()
            return value * 0.5

        return note

    capture(
        model,
        prompt,
        want=set(),
        interventions=[
            Apply("pattern", look("a"), layers=[0], queries=[2]),
            Apply("pattern", look("b"), layers=[0], queries=LAST),
        ],
    )
    assert seen == {"a": [2, len(prompt) - 1], "b": [2, len(prompt) - 1]}


@pytest.mark.parametrize(("site", "part"), [("patern", "decoder"), ("pattern", "tower")])
def test_unknown_places_are_refused(site, part):
    with pytest.raises(
        ValueError,
        match=f"site is one of resid_pre, .* and part one of decoder, vision, qformer, cross, got '{site}' and '{part}'",
    ):
        Apply(site, double, part=part)


def test_a_function_cannot_be_written_down():
    with pytest.raises(TypeError, match="Apply holds a Python function, which cannot be written to a file"):
        Apply("z", double).to_dict()
