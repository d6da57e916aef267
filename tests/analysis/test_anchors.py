import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import interp
from interp.analysis.anchors import (
    VisualAnchors,
    VisualDrift,
    head_groups,
    map_entropy,
    outlier_tokens,
    pearson,
    visual_map,
    visual_mass,
)
from interp.analysis.base import View, on_capture
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment

T = torch.tensor
S, I, U, R = Segment.SYSTEM, Segment.IMAGE, Segment.USER, Segment.RESPONSE  # noqa: E741
LAYOUT = Layout(T([s.value for s in (S, I, I, U, U, R)]), (Grid(0, 1, 2, (0.0, 0.0, 2.0, 1.0)),))
VIEW = View(LAYOUT, tuple("abcdef"), tuple(range(6)), (3, 4, 5))


def test_mass_and_maps_by_hand():
    pattern = T([[[0.5, 0.25, 0.25], [0.0, 0.5, 0.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    image = T([False, True, True])
    torch.testing.assert_close(visual_mass(pattern, image), T([0.5, 0.5]))
    torch.testing.assert_close(visual_map(pattern, T([True, True]), image), T([[0.125, 0.625], [0.25, 0.0]]))
    torch.testing.assert_close(visual_map(pattern, T([False, True]), image), T([[0.0, 1.0], [0.0, 0.0]]))


def test_head_groups_by_hand():
    mass = T([0.1, 0.5, 0.5, 0.5, 0.9])  # mean 0.5, standard deviation 0.253
    sensitive, insensitive, filled = head_groups(mass)
    assert sensitive.tolist() == [False] * 4 + [True]
    assert insensitive.tolist() == [True] + [False] * 4
    assert filled == ()


def test_an_empty_group_gets_its_nearest_head_and_says_so():
    mass = T([0.5, 0.5, 0.5, 0.9])  # the mean is 0.6, one standard deviation below it 0.427
    sensitive, insensitive, filled = head_groups(mass)
    assert sensitive.tolist() == [False, False, False, True]
    assert insensitive.tolist() == [True, False, False, False]
    assert filled == ("insensitive",)
    assert head_groups(T([0.3, 0.3]))[2] == ("sensitive", "insensitive")
    assert head_groups(T([0.3]))[0].tolist() == [True]


def test_entropy_by_hand():
    maps = T([[0.25, 0.25, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(map_entropy(maps), T([math.log(2), 0.0, 0.0]))
    torch.testing.assert_close(map_entropy(maps, normalised=False), T([0.5 * math.log(4), 0.5 * math.log(2), 0.0]))


@example([5.699869785444446e-39])
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6))
def test_normalised_entropy_is_at_most_the_uniform_one(values):
    assert -1e-5 <= float(map_entropy(T(values))) <= math.log(len(values)) + 1e-5


def test_pearson_by_hand():
    torch.testing.assert_close(pearson(T([1.0, 2.0, 3.0]), T([2.0, 4.0, 6.0])), T(1.0))
    torch.testing.assert_close(pearson(T([1.0, 2.0, 3.0]), T([3.0, 1.0, 2.0])), T(-0.5))
    assert float(pearson(T([0.1, 0.1, 0.1]), T([3.0, 1.0, 2.0]))) == 0
    assert float(pearson(T([0.0, 0.0]), T([0.0, 0.0]))) == 0


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 99), st.sampled_from([1e-12, 1.0, 1e6]))
def test_correlations_lie_between_minus_one_and_one(n, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.rand(4, n, generator=generator) * scale, torch.rand(4, n, generator=generator)
    found = pearson(one, other)
    assert bool((found.abs() <= 1).all())
    if n > 2:
        wanted = torch.stack(
            [torch.corrcoef(torch.stack(pair).double())[0, 1] for pair in zip(one, other, strict=True)]
        )
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


def test_what_stands_out():
    maps = torch.zeros(2, 10)
    maps[0, 3] = 1.0  # z = 3
    assert outlier_tokens(maps).nonzero().tolist() == [[0, 3]]
    assert not outlier_tokens(maps, above=3.1).any()
    assert not outlier_tokens(torch.full((1, 7), 0.1)).any()


def layer(*rows):
    """Return the pattern of two heads over three rows from what each gives the two image tokens."""
    pattern = torch.zeros(2, 3, 6)
    for head, values in enumerate(rows):
        pattern[head, :, 1:3] = T(values)
    pattern[:, :, 0] = 1 - pattern.sum(-1)
    return pattern


def test_known_answer_for_two_layers():
    first = layer([[0.4, 0.2]] * 3, [[0.1, 0.0], [0.1, 0.0], [0.0, 0.1]])
    second = layer([[0.0, 0.2]] * 3, [[0.0, 0.6], [0.0, 0.6], [0.6, 0.0]])
    analysis = VisualAnchors()
    partials = {i: analysis.reduce({"pattern": p}, VIEW) for i, p in enumerate((first, second))}
    found = analysis.finish(partials, VIEW)
    # Φ over the rows 3 and 4 (USER); the emitting rows are 4 and 5
    torch.testing.assert_close(found.mass, T([[0.6, 0.1], [0.2, 0.6]]))
    assert (found.queries, found.image, found.middle, found.first) == ((4, 5), (1, 2), 0, 0)
    assert found.sensitive.tolist() == [[True, False], [False, True]]
    torch.testing.assert_close(found.positive_anchor, T([[0.4, 0.2], [0.4, 0.2]]))
    torch.testing.assert_close(found.negative_anchor, T([[0.1, 0.0], [0.0, 0.1]]))
    torch.testing.assert_close(found.maps[1], T([[0.0, 0.4], [0.3, 0.1]]))
    torch.testing.assert_close(found.r_positive, T([[1.0, 1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(found.r_negative, T([[1.0, -1.0], [-1.0, -1.0]]))
    torch.testing.assert_close(found.entropy[1, 0], T(0.0))
    assert found.notes[0] == "layer 0: no head is sensitive, so the one with the largest visual mass takes their place"
    assert found.on_grid(found.maps[1, 0])[0, 0].tolist() == [[0.0, pytest.approx(0.4)]]


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "llava_next"])
def test_streaming_and_a_saved_capture_agree(kind, model_of, picture, tmp_path):
    model = model_of(kind)
    prompt = model.prepare(picture(), "What is it?", response="a cat")
    stream = interp.measure(model, prompt, VisualAnchors())
    kept = interp.capture(model, prompt, want={"pattern"}, queries=VisualAnchors().rows)
    kept.save(tmp_path / "c.safetensors")
    again = on_capture(VisualAnchors(), interp.Capture.load(tmp_path / "c.safetensors"))
    loaded = VisualDrift.load(stream.save(tmp_path / "r.safetensors"))
    for name in VisualDrift.axes():
        torch.testing.assert_close(getattr(again, name), getattr(stream, name), rtol=0, atol=0)
        torch.testing.assert_close(getattr(loaded, name), getattr(stream, name), rtol=0, atol=0)
    assert (loaded.shapes, loaded.notes) == (stream.shapes, stream.notes)
    torch.testing.assert_close(
        stream.r_positive[stream.middle].abs() <= 1, torch.ones_like(stream.r_positive[0]).bool()
    )
    grids = stream.on_grid(stream.maps[0, -1])
    places = prompt.layout.places()
    for value, position in zip(stream.maps[0, -1], stream.image, strict=True):
        place = places[position]
        assert float(grids[place.image, place.tile][place.row, place.col]) == float(value)


def test_the_middle_layer_is_two_before_half(model_of, picture):
    pattern = layer([[0.4, 0.2]] * 3, [[0.1, 0.0]] * 3)
    analysis = VisualAnchors()
    partial = analysis.reduce({"pattern": pattern}, VIEW)
    assert analysis.finish(dict.fromkeys(range(32), partial), VIEW).middle == 14
    assert analysis.finish(dict.fromkeys(range(3), partial), VIEW).middle == 0
    assert VisualAnchors(middle=2).finish(dict.fromkeys(range(3), partial), VIEW).middle == 2


def test_what_has_no_anchors_is_refused(model_of, picture):
    with pytest.raises(ValueError, match="spread and above count standard deviations"):
        VisualAnchors(spread=-1.0)
    model = model_of("llama")
    with pytest.raises(ValueError, match="need an image, and this conversation has none"):
        interp.measure(model, model.prepare(text="What is it?"), VisualAnchors())
    partial = VisualAnchors().reduce({"pattern": layer([[0.4, 0.2]] * 3, [[0.1, 0.0]] * 3)}, VIEW)
    with pytest.raises(ValueError, match=r"come from layers 0 and 14, but \[0\] are not among \[14, 31\]"):
        VisualAnchors().finish({14: partial, 31: partial}, VIEW)
    with pytest.raises(ValueError, match=r"the rows SYSTEM & USER take no token"):
        VisualAnchors(text=S & U).reduce({"pattern": torch.rand(2, 3, 6)}, VIEW)
    found = VisualAnchors().finish({0: partial}, VIEW)
    with pytest.raises(ValueError, match="3 values were given for 2 image tokens"):
        found.on_grid(torch.rand(3))
