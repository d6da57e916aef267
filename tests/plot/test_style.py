"""The style stays inside its context manager, and its colours can be told apart."""

import subprocess
import sys

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb

from interp.data.colours import SEGMENT_COLOURS
from interp.plot.style import axes_or_new, style, word_label


def test_nothing_stays_behind() -> None:
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


def test_what_a_backend_sets_with_the_first_figure_stays() -> None:
    before = mpl.rcParams["interactive"]
    with style():
        mpl.rcParams["interactive"] = not before
    after, mpl.rcParams["interactive"] = mpl.rcParams["interactive"], before
    assert after is not before


def test_settings_come_back_after_an_error() -> None:
    before = mpl.rcParams["font.size"]
    with pytest.raises(KeyError), style():
        raise KeyError
    assert mpl.rcParams["font.size"] == before


def test_importing_changes_no_settings() -> None:
    code = "import matplotlib as m; b = dict(m.rcParams); import interp.plot; print(b == dict(m.rcParams))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_segments_differ_in_lightness_or_hue_for_every_kind_of_eye() -> None:
    # Deuteranopia (Viénot et al. 1999, linear approximation): red and green cones see the same.
    def as_seen(colour: str) -> tuple[float, float]:
        red, green, blue = to_rgb(colour)
        return (0.29 * red + 0.71 * green, blue)

    seen = [as_seen(c) for c in SEGMENT_COLOURS.values()]
    gaps = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(gaps) > 0.1


def test_axes_given_are_the_axes_used(ax) -> None:
    assert axes_or_new(ax) is ax
    assert axes_or_new(None, (2.0, 1.0)).figure.get_size_inches().tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("word", "text"), [("a", "a"), ("\n", r"\n"), (" ", " "), ("", "''"), ("$", r"\$"), ("a\n", r"a\n")]
)
def test_words_can_be_read(word, text) -> None:
    assert word_label(word) == text
