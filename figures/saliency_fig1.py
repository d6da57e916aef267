"""LVLMs-Saliency Figs. 1, 2 and 5: attention and saliency, for a correct and a hallucinated token of one reply.

The attention from the row that predicts a token to each earlier token of the reply, and their saliency (A ⊙ ∇A of the token's own
loss, summed over heads, rows of norm 1); means over layers. The caption is of a scene that invites a hallucination.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from replies import COLOURS, ReplyMaps, bars, measure_reply, with_invention


def measure_maps(setting: Setting) -> ReplyMaps:
    """Measure the first caption with an invention."""
    from captions import captioned

    model = setting.loaded
    return measure_reply(model, with_invention(captioned(model, setting.n, setting.seed, split="counter_prior")))


def draw(maps: ReplyMaps) -> Figure:
    """Draw two rows (attention, saliency) for two tokens: the hallucinated one, and the last correct mention before it."""
    bad = maps.kinds.index("hallucinated")
    good = max(i for i in range(bad) if maps.kinds[i] == "correct")
    figure, axes = plt.subplots(2, 2, figsize=(13.0, 6.0), layout="constrained", sharey="row")
    for column, (step, kind) in enumerate(((good, "correct"), (bad, "hallucinated"))):
        for row, (values, label) in enumerate(((maps.attention, "attention"), (maps.saliency, "saliency"))):
            bars(values[step, :step], maps.words[:step], label if column == 0 else "", COLOURS[kind], axes[row][column])
        axes[0][column].set_title(f"predicting “{maps.words[step].strip()}” ({kind}), token {step} of the reply")
    return figure


if __name__ == "__main__":
    recipe("saliency_fig1", {"maps": Part(ReplyMaps, measure_maps)}, draw, about=__doc__, n=24)
