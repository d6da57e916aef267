"""LVLMs-Saliency Fig. 4: the effect of SGRS' α on hallucination, recall and time.

Captions of scenes half of which invite a hallucination. Dotted: greedy decoding. Grey triangle: the published value. Dashed: tokens per
second relative to greedy decoding, which decodes sixteen prompts at once; SGRS decodes one reply at a time.
"""

import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from settings import draw_swept, swept


def measure_table(setting: Setting) -> pd.DataFrame:
    """Caption under every value."""
    from interp.methods.sgrs import Sgrs

    return swept(setting, Sgrs(), {"alpha": (0.0, 0.2, 0.4, 0.6, 0.8)})


def draw(table: pd.DataFrame) -> Figure:
    """Draw scores and, on a second axis, speed."""
    figure = draw_swept(table, {"alpha": "rejection threshold α"}, {"alpha": 0.6})
    figure.set_size_inches(6.2, 4.2)
    points = table[table["value"].notna()]
    right = figure.axes[0].twinx()
    right.plot(points["value"], points["speed"], color="black", linestyle="--", marker="x", markersize=4)
    right.set(ylabel="tokens per second, relative to greedy (dashed)", ylim=(0, 1.02))
    right.spines["right"].set_visible(True)
    return figure


if __name__ == "__main__":
    recipe("saliency_fig4", {"table": Part(pd.DataFrame, measure_table)}, draw, about=__doc__, n=10)
