import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.analysis.base import View, on_capture
from interp.analysis.sinks import Sinks, SinkTable, attention_received, spans
from interp.data.layout import Layout
from interp.data.tokens import Segment
from interp.passes.capture import capture
from interp.passes.measure import measure

LENGTH = 10
LAYOUT = Layout(torch.tensor([1] + [3] * (LENGTH - 1)))
VIEW = View(LAYOUT, tuple("abcdefghij"), tuple(range(LENGTH)), tuple(range(LENGTH)))


def even(heads=2):
    """Return a causal pattern in which every row attends evenly to what it sees."""
    ones = torch.ones(heads, LENGTH, LENGTH).tril()
    return ones / ones.sum(-1, keepdim=True)


def resting(at, heads=2, share=0.8):
    """Return a causal pattern whose rows give a share to one token, once they see it."""
    pattern = even(heads)
    pattern[:, at:] *= 1 - share
    pattern[:, at:, at] += share
    return pattern


def found(settings=None, **layers):
    """Return the table from patterns, and streams where they matter."""
    sinks = settings or Sinks()
    partials = {}
    for layer, values in enumerate(layers.values()):
        pattern, stream = values if isinstance(values, tuple) else (values, torch.ones(LENGTH, 8))
        partials[layer] = sinks.reduce({"pattern": pattern, "resid_post": stream}, VIEW)
    return sinks.finish(partials, VIEW)


def test_attention_received_by_hand():
    pattern = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(attention_received(pattern), torch.tensor([1.7 / 3, 0.4, 0.5]))


@given(st.integers(0, 1000))
def test_all_that_is_given_is_received(seed):
    scores = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(seed))
    pattern = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    received = attention_received(pattern)
    assert ((received >= 0) & (received <= 1)).all()
    torch.testing.assert_close((received * torch.arange(6, 0, -1)).sum(-1), torch.full((2,), 6.0))


def test_a_token_that_attention_rests_on_is_a_sink():
    table = found(a=resting(3), b=resting(3), c=even())
    assert table.positions == (3,)
    assert table.is_sink[:, 3].tolist() == [True, True, False]
    assert table.tokens.mask(LAYOUT).nonzero().flatten().tolist() == [3]
    (line,) = table.rows()
    assert (line["position"], line["token"], line["segment"], line["layers"]) == (3, "d", "USER", [0, 1])
    assert line["received"] == pytest.approx(float(resting(3)[0, 3:, 3].mean()))


def test_even_attention_to_the_first_token_is_below_the_bound():
    table = found(a=even())
    assert 0 not in table.positions
    torch.testing.assert_close(table.occupancy[0, 0], torch.tensor(sum(1 / n for n in range(1, 11))))


def test_a_sink_lasts_through_a_share_of_the_layers():
    layers = {"a": resting(2), "b": even(), "c": even(), "d": even()}
    assert found(**layers).positions == ()
    assert found(Sinks(persistent=0.25), **layers).positions == (2,)


def test_half_of_the_heads_are_enough():
    pattern = even(4)
    pattern[:2] = resting(2, 2, share=0.5)
    table = found(Sinks(epsilon=0.5), a=pattern)
    assert float(table.received[0, :, 2].mean()) < 0.5
    assert table.positions == (2,)


def test_the_last_tokens_are_seen_by_too_few():
    assert found(a=resting(7)).positions == ()
    assert found(Sinks(ignore_last=0), a=resting(7)).positions[0] == 7


def test_massive_activations_are_large_in_both_senses():
    stream = torch.full((LENGTH, 8), 0.01)
    stream[2, 5] = -200.0
    table = found(a=(resting(2), stream))
    assert table.massive[0, 2] == 200
    assert table.massive_dim[0, 2] == 5
    assert table.median.tolist() == [pytest.approx(0.01)]
    assert table.is_massive()[0].nonzero().flatten().tolist() == [2]
    assert table.rows()[0]["massive"]
    assert table.rows()[0]["massive_ratio"] == pytest.approx(20000)
    assert not found(Sinks(above=300.0), a=(resting(2), stream)).is_massive().any()
    assert not found(Sinks(times_median=30000.0), a=(resting(2), stream)).is_massive().any()


@pytest.mark.parametrize("settings", [{"epsilon": 0.0}, {"epsilon": 1.5}, {"persistent": 0.0}, {"persistent": 2.0}])
def test_bounds_that_decide_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=r"epsilon and persistent are shares in \(0, 1\], got"):
        Sinks(**settings)


def test_measuring_is_reducing_a_capture(model_of, picture, tmp_path):
    model = model_of("qwen2_vl")
    prompt = model.prepare(picture(), "What is this?").with_response("A chair.")
    table = measure(model, prompt, Sinks(epsilon=0.05))
    kept = capture(model, prompt, want={"pattern", "resid_post"})
    other = on_capture(Sinks(epsilon=0.05), kept)
    for name in SinkTable.axes():
        torch.testing.assert_close(getattr(table, name), getattr(other, name), rtol=0, atol=0)
    assert table.positions == other.positions
    assert table.segments.count("IMAGE") == len(prompt.layout.positions(Segment.IMAGE))
    again = SinkTable.load(table.save(tmp_path / "x"))
    assert again.rows() == table.rows()


def large(token, dim, value=500.0):
    """Return a quiet stream with one large entry."""
    stream = torch.full((LENGTH, 8), 0.1)
    stream[token, dim] = value
    return stream


def test_the_table_says_where_each_sink_persists_and_how_large_it_is():
    table = found(a=(even(), large(3, 5)), b=(resting(3), large(3, 5)), c=(resting(3), large(3, 6, 800.0)))
    (line,) = table.table().to_dict("records")
    assert (line["position"], line["token"], line["segment"], line["sink"]) == (3, "d", "USER", True)
    assert (line["layers"], line["massive_layers"], line["massive_dim"]) == ("1-2", "0-2", 6)
    assert line["persistence"] == pytest.approx(2 / 3)
    assert line["massive_ratio"] == pytest.approx(8000)
    assert line["received"] == pytest.approx(float(table.received[1, :, 3].mean()))
    assert line["occupancy"] == pytest.approx(line["received"] * LENGTH)


def test_tokens_that_are_only_massive_are_listed_when_asked_for():
    table = found(a=(resting(3), large(6, 1)))
    assert table.table()["position"].tolist() == [3]
    assert table.table(every=True)["position"].tolist()[:2] == [3, 6]
    assert table.coincidence() == {"both": (), "sink": (3,), "massive": (6,)}
    assert found(a=(resting(3), large(3, 1))).coincidence() == {"both": (3,), "sink": (), "massive": ()}
    nothing = found(a=even()).table()
    assert len(nothing) == 0
    assert "massive_ratio" in nothing.columns


def test_layers_are_written_as_spans():
    assert spans([]) == ""
    assert spans([4, 3, 5, 9]) == "3-5, 9"
    assert spans([0]) == "0"
