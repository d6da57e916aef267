"""AIR's supplement, Figs. 3 to 5: attention maps across all layers and heads, for three cases.

Three scenes with their short captions; in every small map the rows emit the reply and the columns are all tokens. Brightness follows
the square root of attention, cut at 0.25.
"""

import textwrap
from dataclasses import dataclass
from typing import Any, final

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from torch import Tensor

from interp.data.result import Result
from interp.plot.style import SEQUENTIAL

LIMIT = 0.25


@final
@dataclass(frozen=True)
class AllMaps(Result):
    """The attention of every head from the rows that emit a reply, in half precision."""

    pattern: Float[Tensor, "layer head query key"]
    reply: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `pattern`."""
        return "pattern"


def measure_case(setting: Setting, case: int) -> AllMaps:
    """Capture the attention of one case."""
    import torch

    import interp
    from interp.data.tokens import EMITTING
    from interp.world import scenes
    from interp.world.wording import SHORT

    model = setting.loaded
    prompt = model.prepare(scenes("test", case + 1, setting.seed)[-1].image, SHORT[0])
    reply = interp.generate(model, prompt, max_new_tokens=40)
    found = interp.capture(model, prompt.with_response(reply), want={"pattern"}, queries=EMITTING, dtype=torch.float16)
    return AllMaps(found.pattern, reply.text)


def draw(**cases: Any) -> Figure:
    """Draw a board of layers by heads for every case."""
    figure, axes = plt.subplots(1, 3, figsize=(14.0, 5.4), layout="constrained")
    for number, (ax, case) in enumerate(zip(axes, cases.values(), strict=True), 1):
        layers, heads, rows, keys = case.pattern.shape
        board = case.pattern.float().flip(0).permute(0, 2, 1, 3).reshape(layers * rows, heads * keys)
        drawn = ax.imshow(board.sqrt(), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=LIMIT**0.5, interpolation="none")
        for edge in range(1, heads):
            ax.axvline(edge * keys - 0.5, color="white", linewidth=0.8)
        for edge in range(1, layers):
            ax.axhline(edge * rows - 0.5, color="white", linewidth=0.8)
        ax.set_xticks([(h + 0.5) * keys for h in range(heads)], [str(h) for h in range(heads)])
        ax.set_yticks([(i + 0.5) * rows for i in range(layers)], [str(layers - 1 - i) for i in range(layers)])
        ax.set(xlabel="head (within: key, from left)", ylabel="layer (within: row of the reply, from top)")
        ax.set_title(textwrap.fill(f"Case {number}: {case.reply}", 56), fontsize=9)
    figure.colorbar(drawn, ax=axes, label="√ attention", extend="max", fraction=0.02)
    return figure


if __name__ == "__main__":
    parts = {
        f"case{i + 1}": Part(AllMaps, lambda setting, i=i: measure_case(setting, i))  # type: ignore[misc]
        for i in range(3)
    }
    recipe("air_figs3to5", parts, draw, about=__doc__, n=3)
