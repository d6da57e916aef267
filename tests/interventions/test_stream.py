import pytest
import torch
from torch.testing import assert_close

import interp
from interp import LAST, Segment
from interp.data.tokens import AFTER_IMAGE, SINKS
from interp.families.base import family
from interp.interventions.stream import AddVector, ProjectOut, ReplaceFrom, SetDims

EXAMPLES = {
    "dims": lambda model: (SetDims(SINKS, (0, 3)), SetDims(Segment.PAD, (0, 3))),
    "dims to the mean": lambda model: (SetDims(0, (0, 3), "mean", layers=(0,)), SetDims(Segment.PAD, (0, 3), "mean")),
    "dims to a value": lambda model: (
        SetDims(AFTER_IMAGE, (1,), "value", (5.0,)),
        SetDims(Segment.PAD, (1,), "value", (5.0,)),
    ),
    "vector": lambda model: (
        AddVector(torch.linspace(-1, 1, model.dim), 2.0, AFTER_IMAGE),
        AddVector(torch.linspace(-1, 1, model.dim), 0.0, AFTER_IMAGE),
    ),
    "project": lambda model: (ProjectOut(torch.linspace(-1, 1, model.dim)[None], queries=AFTER_IMAGE), None),
}
"""A strong and a neutral setting of every kind, for `test_every_kind`; a neutral one often takes tokens that no prompt has."""


@pytest.fixture(scope="module")
def model():
    module, processor = family("llama").tiny()
    return interp.load(module, processor=processor)


@pytest.fixture(scope="module")
def prompt(model):
    return model.prepare(text="What is it?", response="a red chair")


def stream(model, prompt, *interventions):
    return interp.capture(model, prompt, want={"resid_post"}, interventions=interventions).resid_post


def test_dimensions_are_set_at_the_chosen_token_alone(model, prompt):
    before = stream(model, prompt)
    for change, value in (
        (SetDims(2, (3, 5), layers=(0,)), [0.0, 0.0]),
        (SetDims(2, (3, 5), "value", (7.0, -1.0), layers=(0,)), [7.0, -1.0]),
    ):
        after = stream(model, prompt, change)
        assert after[0, 2, [3, 5]].tolist() == value
        rest = torch.ones_like(after[0], dtype=torch.bool)
        rest[2, [3, 5]] = False
        assert_close(after[0][rest], before[0][rest], rtol=0, atol=0)
    mean = stream(model, prompt, SetDims(2, (3,), "mean", layers=(0,)))[0, 2, 3]
    crowd = ~prompt.layout.mask(Segment.RESPONSE) & ~prompt.layout.mask(2)
    assert_close(mean, before[0, crowd, 3].mean())


def test_a_vector_is_added_and_a_subspace_removed(model, prompt):
    before, vector = stream(model, prompt), torch.randn(model.dim)
    added = stream(model, prompt, AddVector(vector, 2.0, queries=LAST, layers=(0,)))[0]
    assert_close(added[-1], before[0, -1] + 2 * vector)
    assert_close(added[:-1], before[0, :-1], rtol=0, atol=0)
    directions = torch.stack([vector, vector + torch.randn(model.dim)])
    removed = stream(model, prompt, ProjectOut(directions, layers=(0,)))[0]
    assert_close(removed @ directions.T, torch.zeros(len(prompt), 2), rtol=0, atol=1e-4)


def test_another_run_is_patched_in_where_it_is_asked_for(model, prompt):
    other = model.prepare(text="What is at?", response="a red chair")
    seen = interp.capture(model, other, want={"resid_post", "z"})
    differs = next(i for i, (a, b) in enumerate(zip(prompt.ids, other.ids, strict=True)) if a != b)
    patched = stream(model, prompt, ReplaceFrom(seen, queries=differs, layers=(0,)))[0]
    assert_close(patched[differs], seen.resid_post[0, differs], rtol=0, atol=0)
    assert_close(patched[differs + 1 :], stream(model, prompt)[0, differs + 1 :], rtol=0, atol=0)
    everything = ReplaceFrom(seen, layers=(model.layers - 1,))
    logits = [
        interp.capture(model, p, want={"logits"}, interventions=c).logits
        for p, c in ((prompt, (everything,)), (other, ()))
    ]
    assert_close(*logits, rtol=0, atol=1e-6)
    heads = interp.capture(model, prompt, want={"z"}, interventions=[ReplaceFrom(seen, at="z", layers=(1,))]).z
    assert_close(heads[1], seen.z[1], rtol=0, atol=0)


def test_what_cannot_be_patched_is_said(model, prompt):
    seen = interp.capture(model, model.prepare(text="It?"), want={"resid_post"}, layers=[0])
    with pytest.raises(ValueError, match="patching needs conversations of the same length"):
        stream(model, prompt, ReplaceFrom(seen))
    with pytest.raises(ValueError, match=r"layers \[1\] of resid_post were not captured"):
        ReplaceFrom(seen, layers=(1,))
    with pytest.raises(KeyError, match="z was not captured"):
        ReplaceFrom(seen, at="z")
    with pytest.raises(ValueError, match="not at pattern"):
        ReplaceFrom(seen, at="pattern")
    with pytest.raises(ValueError, match="got 1 values for 2 dimensions"):
        SetDims(0, (1, 2), "value", (3.0,))
