import pytest
import torch

import interp
from interp.data.layout import Grid, Layout
from interp.data.prompt import CAPTURE_AXES, Capture, Reply
from interp.data.result import AXES as AXIS_NAMES
from interp.data.tokens import Segment


@pytest.fixture
def kept():
    """Return a capture made by hand."""
    layout = Layout(torch.tensor([1, 2, 2, 3]), (Grid(0, 1, 2, (0.0, 0.0, 8.0, 4.0), tile=1),))
    arrays = {
        "pattern": torch.rand(1, 2, 4, 4),
        "pattern_grad": torch.randn(1, 2, 4, 4),
        "vision.pattern": torch.rand(1, 2, 3, 3),
    }
    return Capture(arrays, layout, ("a", "b", "c", "d"), (1, 2, 3, 4), (5,), (0, 1, 2, 3), "0", "hand-made")


def test_every_axis_of_a_capture_has_a_known_name():
    assert {a for axes in CAPTURE_AXES.values() for a in axes.split()} <= set(AXIS_NAMES)


def test_arrays_are_attributes_and_items(kept):
    assert kept.pattern is kept["pattern"]
    assert kept.pattern_grad is kept["pattern_grad"]
    assert kept["vision.pattern"].shape == (1, 2, 3, 3)


def test_a_capture_lists_its_arrays_in_one_line(kept, tmp_path):
    assert repr(kept) == (
        "Capture(pattern=float32[layer 1, head 2, query 4, key 4], pattern_grad=float32[layer 1, head 2, query 4, key 4], "
        "vision.pattern=float32[1, 2, 3, 3], layers=(5,), target='0', model='hand-made')"
    )
    on_disk = repr(Capture.load(kept.save(tmp_path / "x")))
    assert on_disk.startswith("Capture(arrays on disk: pattern pattern_grad ")
    assert "vision.pattern, layers=(5,), target='0'" in on_disk


def test_what_a_capture_does_not_have_is_said(kept):
    with pytest.raises(
        KeyError, match=r"z was not captured; this capture has pattern, pattern_grad, vision.pattern. Ask for it"
    ):
        kept["z"]
    with pytest.raises(AttributeError, match="a capture has no 'colour'; sites are"):
        kept.colour  # noqa: B018


def test_a_capture_can_be_copied(kept):
    import copy

    assert copy.copy(kept).layers == (5,)
    torch.testing.assert_close(copy.deepcopy(kept).pattern, kept.pattern)


def test_a_hand_made_capture_survives_being_saved(kept, tmp_path):
    again = Capture.load(kept.save(tmp_path / "x"))
    torch.testing.assert_close(again.pattern, kept.pattern, rtol=0, atol=0)
    assert again.layout.grids == kept.layout.grids
    assert (again.layers, again.target, again.model, again.ids) == ((5,), "0", "hand-made", (1, 2, 3, 4))
    assert again.layout.places()[2].box == (4.0, 0.0, 8.0, 4.0)


def test_a_prompt_says_what_it_was_made_from(model_of, picture):
    prompt = model_of("llava").prepare(picture(20, 30), "Why?", response="No")
    assert prompt.text == "Why?"
    assert prompt.images[0].size == (30, 20)
    assert prompt.images[0].mode == "RGB"
    assert "".join(prompt.tokens[i] for i in prompt.layout.positions(Segment.RESPONSE)) == "No"
    assert prompt.ids == tuple(prompt.inputs["input_ids"][0].tolist())


def test_changing_a_prompt_makes_another(model_of, picture):
    prompt = model_of("llava").prepare(picture(), "Why?", system_prompt="Be brief.", response="No")
    before = dict(prompt.inputs)
    bare = prompt.without(Segment.IMAGE)
    longer = prompt.with_response("Yes, it is")
    assert prompt.inputs == before
    assert "".join(bare.tokens).count("Be brief.") == 1
    assert len(longer) > len(prompt) > len(bare)
    assert longer.without(Segment.IMAGE).response_ids == longer.response_ids


def test_a_reply_is_its_text(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "Why?")
    reply = interp.generate(model, prompt, max_new_tokens=2)
    assert isinstance(reply, Reply)
    assert str(reply) == f"{reply}" == reply.text
    assert "prompt" not in repr(reply)
    assert reply.layout.positions(Segment.RESPONSE) == tuple(range(len(prompt), len(prompt) + len(reply.ids)))
