"""What tests of pictures share: a result made by hand, and what a picture really looks like."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from interp.analysis.base import View
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment

mpl.use("Agg")


@pytest.fixture
def ax() -> Axes:
    return Figure(figsize=(5, 4)).add_subplot()


@pytest.fixture
def sink_table() -> SinkTable:
    """A conversation of 8 tokens in 3 layers and 2 heads whose token 0 is a sink in layers 1 and 2, and massive there."""
    segments = [Segment.SYSTEM, *[Segment.IMAGE] * 4, *[Segment.USER] * 3]
    layout = Layout(torch.tensor([s.value for s in segments]), (Grid(0, 2, 2, (0.0, 0.0, 8.0, 8.0)),))
    even = torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None]
    resting = torch.full((8, 8), 0.2).tril(-1) / torch.arange(1, 9)[:, None].clamp_min(1)
    resting[:, 0] += 1 - resting.sum(-1)
    calm, loud = torch.ones(8, 4), torch.ones(8, 4)
    loud[0, 3] = 5000.0
    partials = {
        0: {"pattern": torch.stack([even, even]), "resid_post": calm},
        1: {"pattern": torch.stack([resting, resting]), "resid_post": loud},
        2: {"pattern": torch.stack([resting, even]), "resid_post": loud},
    }
    view = View(layout, ("<s>", "a", "b", "c", "d", "\n", "$x$", "?"), tuple(range(8)), tuple(range(8)))
    sinks = Sinks(ignore_last=2)
    return sinks.finish({layer: sinks.reduce(values, view) for layer, values in partials.items()}, view)


@pytest.fixture
def rendered() -> Callable[[Axes], np.ndarray]:
    """The pixels of the figure that axes belong to, row by row from the top, as RGB from 0 to 255."""

    def pixels(ax: Axes) -> np.ndarray:
        canvas = FigureCanvasAgg(ax.get_figure(root=True))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)

    return pixels


@pytest.fixture
def examples(sink_table) -> SimpleNamespace:
    """What the looks of all plots are made from: a conversation of 10 tokens about an image of 8 × 8 pixels, and numbers."""
    segments = [Segment.SYSTEM, *[Segment.IMAGE] * 4, *[Segment.USER] * 2, *[Segment.RESPONSE] * 3]
    return SimpleNamespace(
        segments=tuple(s.name for s in segments),
        words=("<s>", "a", "b", "c", "d", "What", "?", " red", " $x$", "\n"),
        layout=Layout(torch.tensor([s.value for s in segments]), (Grid(0, 2, 2, (0.0, 0.0, 8.0, 8.0)),)),
        image=Image.linear_gradient("L").resize((8, 8)).convert("RGB"),
        waves=waves,
        sink_table=sink_table,
    )


def waves(*shape: int, start: float = 0.0) -> Tensor:
    """Return numbers in [0, 1] that neither repeat nor depend on a random generator."""
    return ((torch.arange(math.prod(shape)) * 0.7 + start).sin() / 2 + 0.5).reshape(shape)
