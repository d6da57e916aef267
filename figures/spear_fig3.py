"""SPEAR Fig. 3: the largest entries of the residual stream, by token and dimension, after an early, a middle and the last layer.

One captioned test scene.
"""

from dataclasses import dataclass
from typing import final

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from torch import Tensor

from interp.data.result import Result
from interp.plot.towers import towers


@final
@dataclass(frozen=True)
class Streams(Result):
    """The residual stream after some layers."""

    resid_post: Float[Tensor, "layer token dim"]
    layers: tuple[int, ...]
    words: tuple[str, ...]

    @classmethod
    def summary_field(cls) -> str:
        """Return `resid_post`."""
        return "resid_post"


def measure_streams(setting: Setting) -> Streams:
    """Capture the stream after three layers."""
    import torch
    from captions import captioned

    import interp

    model = setting.loaded
    said = captioned(model, setting.n, setting.seed)[-1]
    chosen = sorted({0, model.layers // 2, model.layers - 1})
    found = interp.capture(model, said.prompt, want={"resid_post"}, layers=chosen, dtype=torch.float16)
    return Streams(found.resid_post, found.layers, found.tokens)


def draw(streams: Streams) -> Figure:
    """Draw the towers of the three layers."""
    figure = plt.figure(figsize=(13.5, 4.4), layout="constrained")
    for place, (values, layer) in enumerate(zip(streams.resid_post, streams.layers, strict=True), 1):
        ax = figure.add_subplot(1, len(streams.layers), place, projection="3d")
        towers(values.float(), streams.words, ax=ax)
        largest, median = float(values.float().abs().max()), float(values.float().abs().median())
        ax.set_title(f"after layer {layer}: largest is {largest / median:.0f} × the median")
    return figure


if __name__ == "__main__":
    recipe("spear_fig3", {"streams": Part(Streams, measure_streams)}, draw, about=__doc__, n=1)
