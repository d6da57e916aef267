"""Maps over the image tokens of one question about a drawn scene, for the figures of CLVA."""

from typing import Any

from matplotlib.axes import Axes
from torch import Tensor

from interp.plot.overlay import overlay


def ask(setting: Any, n: int) -> list[Any]:
    """Return n prompts that ask whether something is there which is."""
    from interp.world import scenes

    return [
        setting.loaded.prepare(
            s.image, next(q for q in s.questions if q.kind == "existence" and q.answer == "Yes").text
        )
        for s in scenes("test", n, setting.seed)
    ]


def on_scene(result: Any, values: Tensor, ax: Axes, *, seed: int = 0) -> None:
    """Draw values of image tokens on the first test scene, without ticks."""
    import torch

    from interp.data.layout import Grid, Layout
    from interp.data.tokens import Segment
    from interp.world import scenes

    image = scenes("test", 1, seed)[0].image
    (_, _, rows, cols), *others = result.shapes
    if others:
        raise ValueError("only images of a single tile are drawn here")
    layout = Layout(
        torch.full((rows * cols,), Segment.IMAGE.value), (Grid(0, rows, cols, box=(0.0, 0.0, *map(float, image.size))),)
    )
    overlay(image, values, layout, ax=ax)
    ax.set(xlabel="", ylabel="")
    ax.set_xticks([])
    ax.set_yticks([])
