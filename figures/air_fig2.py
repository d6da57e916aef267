"""AIR's supplement, Fig. 2, and LVLMs-Saliency Fig. 6: the cost of every method in decoding.

Time of a reply relative to plain greedy decoding with sdpa attention; processor time of one thread, methods and greedy decoding taking
turns; medians with quartiles over pairs. `--recompute` reads the last results of `benchmarks/decoding.py`.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.plot.style import BLUE, GREY, ORANGE

MEASURED = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "decoding.json"
PREFIX = "decoding under "


def take_times(setting: Setting) -> pd.DataFrame:
    """Return the ratios that the benchmark wrote down."""
    entries = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows = [
        (e["what"].removeprefix(PREFIX), e["size"], e["ratio"], *e["spread"], e["rounds"])
        for e in entries
        if e["what"].startswith(PREFIX)
    ]
    if not rows:
        raise SystemExit("nothing was measured yet: python benchmarks/decoding.py")
    return pd.DataFrame(rows, columns=["method", "size", "ratio", "low", "high", "rounds"])


def draw(times: pd.DataFrame) -> Figure:
    """Draw a point a method and size, cheapest first."""
    order = times.groupby("method")["ratio"].min().sort_values().index.tolist()
    figure, ax = plt.subplots(figsize=(7.4, 0.9 + 0.27 * len(order)), layout="constrained")
    for shift, (size, colour, marker) in enumerate((("embedded", ORANGE, "o"), ("mid", BLUE, "s"))):
        mine = times[times["size"] == size]
        if len(mine):
            places = [order.index(m) + 0.18 * (2 * shift - 1) for m in mine["method"]]
            ax.hlines(places, mine["low"], mine["high"], color=colour, linewidth=1.4)
            about = {"embedded": "embedded model (2.7 M)", "mid": "mid (204 M, 576 image tokens)"}[size]
            ax.plot(mine["ratio"], places, marker, color=colour, markersize=5, label=about)
    ax.axvline(1, color=GREY, linewidth=0.9)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlabel="time of a reply, relative to greedy decoding", xscale="log")
    ax.set_xticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    ax.minorticks_off()
    ax.legend()
    return figure


if __name__ == "__main__":
    recipe("air_fig2", {"times": Part(pd.DataFrame, take_times)}, draw, about=__doc__, n=1)
