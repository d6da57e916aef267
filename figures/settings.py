"""Sweeps over the settings of methods on captions of scenes that invite a hallucination, for the sensitivity figures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from interp.plot.style import BLUE, GREEN, GREY, ORANGE

SCORES = {"chair_s": ("CHAIR_s", ORANGE, "o"), "chair_i": ("CHAIR_i", BLUE, "s"), "recall": ("recall", GREEN, "^")}


def swept(setting: Any, method: Any, over: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return the scores of captions under every value of each setting, one setting at a time, the others as they are."""
    from interp.bench.chair import Chair
    from interp.runs.sweep import sweep
    from interp.taps.audit import NothingChanged

    tables = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)  # a neutral value is among those that are tried
        for name, values in over.items():
            asked = Chair(n=2 * setting.n, split="counter_prior", seed=setting.seed)
            frame = sweep(setting.loaded, asked, over={name: list(values)}, method=method).frame
            chosen = ["part", "n", "speed", "seconds", *(f"{s}{b}" for s in SCORES for b in ("", "_low", "_high"))]
            tables.append(frame[frame["part"] == "total"][chosen].assign(setting=name, value=frame[name]))
    return pd.concat(tables, ignore_index=True)


def draw_swept(table: pd.DataFrame, names: Mapping[str, str], defaults: Mapping[str, float]) -> Figure:
    """Draw a panel a setting: scores with 95 % bootstrap intervals; dotted is greedy decoding, the triangle the default."""
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.9 * len(names), 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for ax, (name, said) in zip(axes[0], names.items(), strict=True):
        mine = table[table["setting"] == name]
        greedy, points = mine[mine["value"].isna()].iloc[0], mine[mine["value"].notna()]
        for score, (label, colour, marker) in SCORES.items():
            ax.axhline(greedy[score], color=colour, linestyle=":", linewidth=1.0)
            ax.fill_between(
                points["value"], points[f"{score}_low"], points[f"{score}_high"], color=colour, alpha=0.12, linewidth=0
            )
            ax.plot(points["value"], points[score], color=colour, marker=marker, markersize=4, label=label)
        ax.plot(defaults[name], -0.02, "^", color=GREY, transform=ax.get_xaxis_transform(), clip_on=False)
        ax.set(xlabel=said, ylim=(0, 1.02))
    axes[0][0].set_ylabel(f"share (n = {int(table['n'].iloc[0])} captions)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
