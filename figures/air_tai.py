"""AIR, token imbalance along a reply: attention received over information contributed (TAI), token by token.

The caption of one scene that invites a hallucination; the denominator is the share of attention-output norm, which is this
project's reconstruction. Letters mark correct and hallucinated mentions.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.plot.style import BLUE, GREY, RED, word_label


def measure_tokens(setting: Setting) -> pd.DataFrame:
    """Measure the imbalance of every token of the first caption with an invention."""
    from captions import captioned

    import interp
    from interp.analysis.imbalance import TokenImbalance

    model = setting.loaded
    said = next(c for c in captioned(model, setting.n, setting.seed, split="counter_prior") if c.hallucinated.any())
    found = interp.measure(model, said.prompt, TokenImbalance())
    first = len(said.prompt) - len(said.reply.ids)
    kind = [
        "hallucinated" if b else "correct" if g else "" for b, g in zip(said.hallucinated, said.correct, strict=True)
    ]
    return pd.DataFrame({"token": said.reply.tokens, "tai": found.overall[first:].tolist(), "mention": kind})


def draw(tokens: pd.DataFrame) -> Figure:
    """Draw one bar a token."""
    figure, ax = plt.subplots(figsize=(11.0, 3.2), layout="constrained")
    colours = {"hallucinated": RED, "correct": BLUE}
    kinds = tokens["mention"].fillna("")
    ax.bar(range(len(tokens)), tokens["tai"], color=[colours.get(k, GREY) for k in kinds])
    ax.axhline(1, color="black", linewidth=0.8, linestyle="--")
    ax.set_xticks(range(len(tokens)), [word_label(str(t)) for t in tokens["token"]], rotation=70, ha="right")
    for name, colour in (*colours.items(), ("other", GREY)):
        ax.bar(0, 0, color=colour, label={"other": "other token"}.get(name, f"{name} mention"))
    ax.set(ylabel="TAI (1: in balance)", xlim=(-0.8, len(tokens) - 0.2))
    ax.legend(ncols=3)
    return figure


if __name__ == "__main__":
    recipe("air_tai", {"tokens": Part(pd.DataFrame, measure_tokens)}, draw, about=__doc__, n=24)
