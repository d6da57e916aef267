"""Texts with coloured tokens."""

from itertools import pairwise

import pytest
import torch
from matplotlib.colors import to_hex

from interp.plot import SEGMENT_COLOURS, coloured_words


def test_every_word_has_the_colour_of_its_segment(ax) -> None:
    assert coloured_words(["<s>", "Is", "it", "?"], ["SYSTEM", "USER", "USER", "RESPONSE"], ax=ax) is ax
    grounds = [to_hex(p.get_facecolor()).upper() for p in ax.patches]
    assert grounds == [SEGMENT_COLOURS[n] for n in ("SYSTEM", "USER", "USER", "RESPONSE")]
    assert [t.get_text() for t in ax.texts] == ["<s>", "Is", "it", "?"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["SYSTEM", "USER", "RESPONSE"]


def test_a_higher_score_is_lighter_and_the_scale_is_labelled(ax) -> None:
    coloured_words(["a", "b", "c"], torch.tensor([0.0, 0.5, 1.0]), label="nats", ax=ax)
    light = [sum(p.get_facecolor()[:3]) for p in ax.patches]
    assert light == sorted(light)
    assert light[0] < light[-1]
    assert ax.figure.axes[1].get_xlabel() == "nats"


def test_words_wrap_and_do_not_overlap(ax) -> None:
    coloured_words(["word"] * 10, torch.rand(10), columns=20, ax=ax)
    boxes = [(p.get_x(), p.get_y(), p.get_x() + p.get_width()) for p in ax.patches]
    assert {round(y, 2) for _, y, _ in boxes} == {0.08, 1.08, 2.08}
    for (_, line, right), (left, below, _) in pairwise(boxes):
        assert below > line or left >= right
    assert max(right for _, _, right in boxes) <= 21


def test_one_score_a_word() -> None:
    with pytest.raises(ValueError, match="2 colours were given for 3 words"):
        coloured_words(["a", "b", "c"], torch.rand(2))


EXAMPLES = {"words.coloured_words": lambda examples: (examples.words, examples.segments)}
