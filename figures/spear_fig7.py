"""SPEAR Fig. 7: suppression curves.

The gain of the image and the gain of the text without the sinks, one at a time, on captions of scenes half of which invite a
hallucination. Dotted: greedy decoding. Grey triangle: the published value.
"""

import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from settings import draw_swept, swept


def measure_table(setting: Setting) -> pd.DataFrame:
    """Caption under every value."""
    from interp.methods.spear import Spear

    over = {"enhance": (1.0, 1.15, 1.3, 1.6, 2.0), "suppress": (0.8, 0.9, 0.95, 1.0)}
    return swept(setting, Spear(), over)


def draw(table: pd.DataFrame) -> Figure:
    """Draw a panel a setting."""
    names = {"enhance": "gain of image scores", "suppress": "gain of text scores (sinks spared)"}
    return draw_swept(table, names, {"enhance": 1.15, "suppress": 0.95})


if __name__ == "__main__":
    recipe("spear_fig7", {"table": Part(pd.DataFrame, measure_table)}, draw, about=__doc__, n=30)
