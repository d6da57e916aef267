"""Plots: functions from a result or an array to matplotlib axes, one file per kind of result.

`picture` draws any result with the function made for its kind; `save_pictures` in files writes all of them. General shapes: heatmap (layers
by heads), signed (the same with a meaningful zero), pairs (queries by keys), overlay (image tokens on the image), shares, rates, towers,
words. `style` is the one place for colours and sizes.
"""

from interp.data.colours import SEGMENT_COLOURS
from interp.data.display import format_token
from interp.plot.heatmap import heatmap
from interp.plot.overlay import overlay
from interp.plot.pictures import picture
from interp.plot.rates import rates
from interp.plot.scene import scene
from interp.plot.shares import budget, shares
from interp.plot.sinks import massive, received
from interp.plot.style import style, word_label
from interp.plot.words import coloured_words

__all__ = [
    "SEGMENT_COLOURS",
    "budget",
    "coloured_words",
    "format_token",
    "heatmap",
    "massive",
    "overlay",
    "picture",
    "rates",
    "received",
    "scene",
    "shares",
    "style",
    "word_label",
]
