"""The resting state by stage, and what the page says of it."""

import pytest

from interp.world.ladder.card import _sinks
from interp.world.ladder.rest import measure_rests


@pytest.fixture(scope="module")
def rests(tiny, uninterrupted):
    return measure_rests(tiny, uninterrupted)


def test_shares_are_of_all_attention(rests, tiny):
    assert len(rests) == 4
    for found in rests.values():
        assert found.start.shape == (tiny.network.layers, tiny.network.heads)
        assert (found.start >= 0).all()
        assert ((found.start + found.image) <= 1 + 1e-5).all()
    assert rests["untrained, text"].image.max() == 0
    assert rests["trained, answers about images"].image.min() > 0


def test_the_planted_rest_is_there_before_training(rests):
    assert rests["untrained, text"].start[1].mean() > 0.3
    assert rests["untrained, text"].start[0].mean() < 0.1


def test_the_page_names_the_layers_with_a_sink(rests):
    text = _sinks(rests, planted=True)
    assert "planted before training" in text
    assert text.count("\n|") == 6
    assert "not planted" in _sinks(rests, planted=False)
