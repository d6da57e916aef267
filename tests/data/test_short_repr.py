"""The short text form of dataclasses."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.sinks import Sinks
from interp.data.short_repr import short_repr
from interp.data.tokens import EMITTING, Segment
from interp.interventions.attention import MaskAttention


@dataclass(frozen=True)
class Kept:
    array: Float[Tensor, "layer head"]
    words: tuple[str, ...]
    plain: Any = None
    share: float = 0.5
    of: Any = field(default=None, repr=False)


def test_arrays_are_sizes_long_tuples_are_cut_and_defaults_are_left_out() -> None:
    kept = Kept(torch.zeros(2, 3), tuple("abcdefgh"), of="hidden")
    assert (
        short_repr(kept) == "Kept(array=float32[layer 2, head 3], words=('a', 'b', 'c', 'd', 'e', 'f', ... 8 in all))"
    )
    other = Kept(torch.zeros(1, 1), (), {"a": torch.zeros(4, dtype=torch.int64), "b": [1]}, 1 / 3)
    assert (
        short_repr(other)
        == "Kept(array=float32[layer 1, head 1], words=(), plain={'a': int64[4], 'b': [1]}, share=0.333333)"
    )


def test_settings_print_what_differs_from_the_defaults() -> None:
    assert repr(Sinks()) == "Sinks()"
    assert repr(Sinks(epsilon=0.2)) == "Sinks(epsilon=0.2)"
    assert repr(MaskAttention(Segment.IMAGE, EMITTING)) == "MaskAttention(keys=IMAGE, queries=EMITTING)"


def test_no_public_object_prints_its_numbers(model_of, picture) -> None:
    import interp

    model = model_of("llava")
    prompt = model.prepare(picture(), "What is in the image?")
    reply = interp.generate(model, prompt, max_new_tokens=12)
    objects = [
        prompt,
        prompt.layout,
        reply,
        interp.capture(model, prompt),
        interp.measure(model, prompt, "sinks"),
        interp.measure(model, [prompt], "sinks", progress=False),
        model.weights(0),
        model.directions([1, 2]),
        model,
    ]
    for one in objects:
        assert len(repr(one)) < 900, one
        assert "tensor(" not in repr(one)
        assert repr(one).startswith(type(one).__name__)
