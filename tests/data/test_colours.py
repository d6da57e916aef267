import itertools

import pytest

from interp.data.colours import COOL, PLAIN, SEGMENT_COLOURS, WARM, ink, shade


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(
        w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
        for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


def test_the_ends_and_the_middle_of_a_scale() -> None:
    assert shade(0.0) == WARM[0]
    assert shade(1.0) == WARM[-1]
    assert shade(0.5) == WARM[3]
    assert shade(0.5, ("#000000", "#ffffff")) == "#808080"


@pytest.mark.parametrize(("value", "end"), [(-3.0, 0), (7.0, -1), (float("nan"), 0)])
def test_what_lies_outside_gets_an_end(value, end) -> None:
    assert shade(value, COOL) == COOL[end]


@pytest.mark.parametrize("stops", [WARM, COOL, PLAIN])
def test_more_is_darker(stops) -> None:
    light = [_luminance(shade(i / 50, stops)) for i in range(51)]
    assert all(a > b for a, b in itertools.pairwise(light))


@pytest.mark.parametrize("colour", [*SEGMENT_COLOURS.values(), *(shade(i / 20, WARM) for i in range(21))])
def test_letters_stand_out_from_their_ground(colour) -> None:
    pair = sorted((_luminance(colour), _luminance(ink(colour))))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5
