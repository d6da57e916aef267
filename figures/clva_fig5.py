"""CLVA Fig. 5: the effect of the strengths of both visual anchors.

The gain α of the positive visual anchor and the loss β of the negative one, one at a time, on captions of scenes half of which invite
a hallucination. Dotted: greedy decoding. Grey triangle: the published value.
"""

import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from settings import draw_swept, swept


def measure_table(setting: Setting) -> pd.DataFrame:
    """Caption under every value."""
    from interp.methods.clva import Clva

    over = {"positive": (0.0, 2.0, 7.0, 14.0, 20.0), "negative": (0.0, 0.3, 0.6, 0.9)}
    return swept(setting, Clva(), over)


def draw(table: pd.DataFrame) -> Figure:
    """Draw a panel a setting."""
    names = {"positive": "gain of the positive visual anchor α", "negative": "loss of the negative visual anchor β"}
    return draw_swept(table, names, {"positive": 14.0, "negative": 0.9})


if __name__ == "__main__":
    recipe("clva_fig5", {"table": Part(pd.DataFrame, measure_table)}, draw, about=__doc__, n=30)
