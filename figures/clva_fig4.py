"""CLVA Fig. 4: MME by task, for greedy decoding and methods.

The world's own yes/no questions in MME's form, two per image: existence, count, position, colour. Of these the embedded model learned
existence alone in the form of yes or no. A task's score is 100 × (accuracy + accuracy of pairs), 50 for always
giving the same answer; lines are 95 % bootstrap intervals over images.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.plot.style import CYCLE, GREY

METHODS = ("clva", "vaf", "spear", "vcd")


def measure_table(setting: Setting) -> pd.DataFrame:
    """Ask under every method."""
    import interp
    from interp.bench.mme import Mme

    frame = interp.run(setting.loaded, Mme(n=setting.n, seed=setting.seed), METHODS).frame
    return frame[["method", "part", "n", "score", "score_low", "score_high"]]


def draw(table: pd.DataFrame) -> Figure:
    """Draw bars by task."""
    tasks = [p for p in dict.fromkeys(table["part"]) if p != "total"]
    names = list(dict.fromkeys(table["method"]))
    figure, ax = plt.subplots(figsize=(9.0, 3.8), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        mine = table[table["method"] == name].set_index("part").loc[tasks]
        places = [i + width * (index - (len(names) - 1) / 2) for i in range(len(tasks))]
        colour = GREY if index == 0 else CYCLE[(index - 1) % len(CYCLE)]
        ax.bar(places, mine["score"], width * 0.92, color=colour, label=name)
        ax.vlines(places, mine["score_low"], mine["score_high"], color="black", linewidth=0.9)
    counts = table.groupby("part")["n"].max()
    ax.set_xticks(range(len(tasks)), [f"{t}\n({counts[t]} questions)" for t in tasks])
    ax.set(ylabel="MME score (0 to 200)", ylim=(0, 205))
    figure.legend(loc="outside lower center", ncols=len(names))
    return figure


if __name__ == "__main__":
    recipe("clva_fig4", {"table": Part(pd.DataFrame, measure_table)}, draw, about=__doc__, n=60)
