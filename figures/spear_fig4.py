"""SPEAR Fig. 4: the effect on three tasks if the sink is masked, its value set to zero, or its value set to the mean.

Test scenes of the drawn world; controls: the most attended image token and another text token. Bars are means, lines 95 % bootstrap
intervals over scenes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.plot.style import CYCLE, GREY

SHOWN = {"quality": "quality", "hallucinated": "hallucinated", "tokens_generated": "tokens generated"}
WAYS = {"none": "baseline", "mask": "masked", "zero": "value zero", "mean": "value mean"}


def measure_study(setting: Setting) -> pd.DataFrame:
    """Run the study on the three tasks."""
    from interp.experiments.sinks import sink_study
    from interp.experiments.tasks import drawn_tasks
    from interp.world import scenes

    model = setting.loaded
    found = sink_study(model, drawn_tasks(model, scenes("test", setting.n, setting.seed)), batch_size=32)
    return found.frame()[["task", "tokens", "how", "prompt", *SHOWN, "ended"]]


def draw(study: pd.DataFrame) -> Figure:
    """Draw a panel a task and outcome."""
    tasks = list(dict.fromkeys(study["task"]))
    sets = [s for s in ("sink", "visual", "other") if s in set(study["tokens"])]
    figure, axes = plt.subplots(len(SHOWN), len(tasks), figsize=(12.0, 7.6), layout="constrained", sharex=True)
    for row, (column, name) in zip(axes, SHOWN.items(), strict=True):
        for ax, task in zip(row, tasks, strict=True):
            mine = study[study["task"] == task]
            for index, way in enumerate(WAYS):
                for place, which in enumerate(sets):
                    chosen = mine[mine["how"] == way]
                    values = chosen[chosen["tokens"].isin([which, "nothing"])][column].to_numpy(float)
                    drawn = np.random.default_rng(0).choice(values, (1000, len(values))).mean(1)
                    low, high = np.quantile(drawn, [0.025, 0.975])
                    at, mean = place + 0.2 * (index - 1.5), values.mean()
                    colour = GREY if way == "none" else CYCLE[index - 1]
                    ax.bar(at, mean, 0.18, color=colour, label=WAYS[way] if place == 0 else None)
                    ax.plot([at, at], [low, high], color="black", linewidth=0.9)
            ax.set_xticks(range(len(sets)), [f"{s} tokens" if s != "sink" else "the sink" for s in sets])
            if column != "tokens_generated":
                ax.set_ylim(0, 1)
        row[0].set_ylabel(name)
    for ax, task in zip(axes[0], tasks, strict=True):
        ax.set_title(task)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    recipe("spear_fig4", {"study": Part(pd.DataFrame, measure_study)}, draw, about=__doc__, n=60)
