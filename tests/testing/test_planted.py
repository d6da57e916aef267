import pytest
import torch
from PIL import Image

import interp
from interp.analysis.sinks import Sinks
from interp.interventions.attention import MaskAttention
from interp.interventions.values import MeanValues, ZeroValues
from interp.taps.audit import NothingChanged
from interp.testing.planted import planted_sink


@pytest.fixture(params=[False, True], ids=["llama", "llava"])
def planted(request):
    return planted_sink(image=request.param)


@pytest.fixture
def prompt(planted):
    image = Image.new("RGB", (28, 28)) if planted.model.family.image_token else None
    return planted.model.prepare(image, "cafebabedeadbeefghijklmnop")


def accuracy(planted, prompt, *interventions):
    logits = interp.capture(planted.model, prompt, want={"logits"}, interventions=interventions).logits
    return planted.accuracy(logits, torch.tensor(prompt.ids))


def test_masking_the_sink_breaks_the_model_and_zeroing_its_value_does_not(planted, prompt):
    sink, rows = planted.position, interp.Segment.USER
    assert accuracy(planted, prompt) == 1
    with pytest.warns(NothingChanged):  # its value is zero already
        assert accuracy(planted, prompt, ZeroValues(sink)) == 1
    assert accuracy(planted, prompt, MaskAttention(sink, queries=rows)) < 0.1
    assert accuracy(planted, prompt, MaskAttention(3, queries=rows)) == 1
    assert accuracy(planted, prompt, MeanValues(sink)) < 0.1


def test_the_detector_finds_exactly_what_was_planted(planted, prompt):
    found = interp.measure(planted.model, prompt, Sinks())
    assert found.positions == (planted.position,)
    (line,) = found.rows()
    assert tuple(line["layers"]) == planted.layers
    assert line["massive"]
    assert line["massive_dim"] in planted.dims
    resting = (found.received[:, :, planted.position] > 0.9).nonzero().tolist()
    assert resting == [[layer, head] for layer in planted.layers for head in planted.heads]
    assert found.is_massive().any(0).nonzero().flatten().tolist() == [planted.position]


def test_depth_is_a_setting():
    assert planted_sink(layers=2).layers == (1,)
    with pytest.raises(ValueError, match="at least 2 layers, got 1"):
        planted_sink(layers=1)
