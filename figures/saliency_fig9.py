"""LVLMs-Saliency Figs. 9 and 10: a hallucination of high saliency, and the scores along a long reply.

Above: the hallucinated mention with the highest saliency, contrary to the expectation of the paper. Below: the score of every
mention along the longest caption with a hallucination.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe
from replies import COLOURS, ReplyMaps, bars, measure_reply

from interp.plot.style import word_label


def _with_inventions(setting: Setting) -> list:
    from captions import captioned

    said = [
        c for c in captioned(setting.loaded, setting.n, setting.seed, split="counter_prior") if c.hallucinated.any()
    ]
    if not said:
        raise SystemExit(f"none of {setting.n} captions names something that is not there; ask for more with --n")
    return said


def measure_failure(setting: Setting) -> ReplyMaps:
    """Measure the caption whose invention is the most salient."""
    every = [measure_reply(setting.loaded, c) for c in _with_inventions(setting)]
    return max(every, key=lambda m: max(float(m.score[i]) for i, k in enumerate(m.kinds) if k == "hallucinated"))


def measure_longest(setting: Setting) -> ReplyMaps:
    """Measure the longest caption with an invention."""
    return measure_reply(setting.loaded, max(_with_inventions(setting), key=lambda c: len(c.reply.ids)))


def draw(failure: ReplyMaps, longest: ReplyMaps) -> Figure:
    """Draw the two panels."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(12.5, 6.6), layout="constrained")
    bad = max((i for i, k in enumerate(failure.kinds) if k == "hallucinated"), key=lambda i: float(failure.score[i]))
    bars(failure.saliency[bad, :bad], failure.words[:bad], "saliency", COLOURS["hallucinated"], above)
    word, score = failure.words[bad].strip(), float(failure.score[bad])
    above.set_title(f"failure case: predicting “{word}”, which is not there; score {score:.2f}")
    steps = range(len(longest.words))
    below.bar(steps, longest.score.tolist(), color=[COLOURS[k] for k in longest.kinds])
    below.set_xticks(steps, [word_label(w) for w in longest.words], rotation=75, ha="right", fontsize=8)
    below.set(ylabel="saliency of the previous token", xlim=(-0.8, len(longest.words) - 0.2))
    for kind, colour in COLOURS.items():
        below.bar(0, 0, color=colour, label=f"{kind} mention" if kind else "other token")
    below.legend(ncols=3)
    below.set_title("a long reply, token by token")
    return figure


if __name__ == "__main__":
    parts = {"failure": Part(ReplyMaps, measure_failure), "longest": Part(ReplyMaps, measure_longest)}
    recipe("saliency_fig9", parts, draw, about=__doc__, n=40)
