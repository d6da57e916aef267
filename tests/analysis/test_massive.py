import pytest
import torch

import interp
from interp.analysis.base import View, on_capture
from interp.analysis.massive import Massive, MassiveTable, largest_entries
from interp.data.layout import Layout
from interp.data.tokens import Segment

T = torch.tensor
VIEW = View(Layout(T([Segment.USER.value] * 2)), ("a", "b"), (0, 1))


def test_the_largest_entries_keep_their_sign_and_say_where_they_are():
    value, token, dim = largest_entries(T([[1.0, -7.0, 2.0], [3.0, 0.0, -1.0]]), 3)
    assert value.tolist() == [-7.0, 3.0, 2.0]
    assert token.tolist() == [0, 1, 0]
    assert dim.tolist() == [1, 0, 2]
    assert len(largest_entries(T([[1.0]]), 5)[0]) == 1


def test_only_what_is_above_both_bounds_is_massive():
    quiet = torch.full((2, 50), 0.1)
    first, second, third = quiet.clone(), quiet.clone(), quiet * 10
    first[0, 3] = second[0, 3] = third[0, 3] = -150.0
    second[1, 7] = 90.0  # a thousand medians, but not a hundred
    analysis = Massive(count=2)
    found = analysis.finish(
        {i: analysis.reduce({"resid_post": x}, VIEW) for i, x in ((4, first), (5, second), (6, third))}, VIEW
    )
    assert found.entries() == {(0, 3): (4, 5)}  # after layer 6 it is only 150 medians
    torch.testing.assert_close(found.ratio[:, 0], T([1500.0, 1500.0, 150.0]))
    assert found.frame()["layer"].unique().tolist() == [4, 5, 6]


def test_a_planted_entry_is_found_where_it_was_planted(model_of, picture):
    from interp.interventions.function import Apply

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is it?")

    def plant(stream, here):
        changed = stream.clone()
        changed[:, 2, 11] = 5e4
        return changed

    found = interp.measure(model, prompt, Massive(), interventions=(Apply("resid_post", plant, layers=(0,)),))
    assert found.entries()[2, 11] == (0, 1)
    assert (2, 11) not in interp.measure(model, prompt, Massive()).entries()


def test_streaming_and_a_saved_capture_agree(model_of, picture, tmp_path):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is it?")
    stream = interp.measure(model, prompt, Massive())
    again = on_capture(Massive(), interp.capture(model, prompt, want={"resid_post"}))
    loaded = MassiveTable.load(stream.save(tmp_path / "m.safetensors"))
    for name in MassiveTable.axes():
        torch.testing.assert_close(getattr(again, name), getattr(stream, name), rtol=0, atol=0)
        torch.testing.assert_close(getattr(loaded, name), getattr(stream, name), rtol=0, atol=0)


def test_a_list_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        Massive(count=0)
