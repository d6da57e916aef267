"""Sinks and massive activations in pictures."""

import numpy as np
import torch

from interp.plot import massive, received


def test_the_hand_made_table_has_the_sink_it_was_made_with(sink_table) -> None:
    assert sink_table.positions == (0,)
    assert sink_table.is_massive()[:, 0].tolist() == [False, True, True]


def test_received_names_tokens_and_stars_sinks(sink_table, ax) -> None:
    assert received(sink_table, most=3, ax=ax) is ax
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names[0] == "★ <s>  0"
    assert len(names) == 3
    assert all("★" not in name for name in names[1:])
    top = [int(name.split()[-1]) for name in names]
    assert top == sorted(top)
    drawn = torch.as_tensor(np.asarray(ax.images[0].get_array()))
    torch.testing.assert_close(drawn, sink_table.received.mean(1)[:, top].T)
    assert "α" in ax.figure.axes[1].get_ylabel()


def test_strange_tokens_are_readable(sink_table, ax) -> None:
    received(sink_table, most=8, ax=ax)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert r"\n  5" in names
    assert r"\$x\$  6" in names
    ax.figure.canvas.draw()  # nothing is taken for mathematics


def test_massive_draws_the_loudest_token_by_layer_and_the_bound(sink_table, ax) -> None:
    assert massive(sink_table, largest=1, ax=ax) is ax
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(lines["<s> at 0"]) == [1.0, 5000.0, 5000.0]
    assert list(lines["median entry"]) == [1.0, 1.0, 1.0]
    assert list(lines["bound"]) == [1000.0, 1000.0, 1000.0]
    assert ax.get_yscale() == "log"


EXAMPLES = {
    "sinks.received": lambda examples: (examples.sink_table,),
    "sinks.massive": lambda examples: (examples.sink_table,),
}
