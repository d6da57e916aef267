"""AIR's supplement, Fig. 1 and Table 1: the effect of its settings.

The gain of the image λ, the gain of the text γ, the threshold τ and the regularisation β, one at a time, on captions of scenes half
of which invite a hallucination. Dotted: greedy decoding. Grey triangle: the published value.
"""

import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from settings import draw_swept, swept

NAMES = {
    "visual_gain": "gain of the image λ",
    "text_gain": "gain of the text γ",
    "tau_text": "threshold τ",
    "beta": "regularisation β",
}


def measure_table(setting: Setting) -> pd.DataFrame:
    """Caption under every value."""
    from sensitive import sensitive_heads

    from interp.methods.air import Air

    over = {
        "visual_gain": (1.0, 2.0, 3.5, 5.0),
        "text_gain": (0.0, 0.1, 0.5, 1.0),
        "tau_text": (0.1, 0.3, 0.5, 0.7),
        "beta": (0.0, 0.3, 0.6),
    }
    return swept(setting, Air(heads=sensitive_heads()), over)


def draw(table: pd.DataFrame) -> Figure:
    """Draw a panel a setting."""
    return draw_swept(table, NAMES, {"visual_gain": 3.5, "text_gain": 0.1, "tau_text": 0.3, "beta": 0.3})


if __name__ == "__main__":
    recipe("air_fig1", {"table": Part(pd.DataFrame, measure_table)}, draw, about=__doc__, n=30)
