"""AIR, head sensitivity: which heads support hallucinated tokens more than correct ones, by exact erasure at the step.

Left: the effect size of every head. Middle: the strongest ones with intervals. Right: the first-order estimate of one backward pass
against the exact change, every head and token of one caption.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.analysis.sensitivity import Erasure, FirstOrder, Sensitivity
from interp.plot.sensitivity import effect_sizes, estimates, strongest


def measure_sensitivity(setting: Setting) -> Sensitivity:
    """Erase every head in turn from the captions of scenes that invite an invention."""
    from captions import captioned
    from tqdm import tqdm

    from interp.analysis.sensitivity import pool_tokens, sensitivity
    from interp.experiments.erasure import erase_heads

    model = setting.loaded
    said = captioned(
        model, setting.n, setting.seed + 1, split="counter_prior"
    )  # other scenes than those methods are judged on
    changes = [erase_heads(model, c.prompt).change() for c in tqdm(said, desc="heads")]
    return sensitivity(*pool_tokens(changes, [c.hallucinated for c in said], [c.correct for c in said]))


def measure_exact(setting: Setting) -> Erasure:
    """Erase every head from one caption."""
    from captions import captioned

    from interp.experiments.erasure import erase_heads

    return erase_heads(setting.loaded, captioned(setting.loaded, 1, setting.seed, split="counter_prior")[0].prompt)


def measure_estimate(setting: Setting) -> FirstOrder:
    """Estimate the same from one backward pass."""
    from captions import captioned

    import interp
    from interp.analysis.sensitivity import HeadAttribution

    said = captioned(setting.loaded, 1, setting.seed, split="counter_prior")[0]
    return interp.measure(setting.loaded, said.prompt, HeadAttribution())


def draw(sensitivity: Sensitivity, exact: Erasure, estimate: FirstOrder) -> Figure:
    """Draw the three panels."""
    figure, axes = plt.subplots(1, 3, figsize=(14.0, 4.0), layout="constrained")
    effect_sizes(sensitivity, ax=axes[0])
    strongest(sensitivity, ax=axes[1])
    estimates(exact.change("log_probability"), estimate.effect, ax=axes[2])
    axes[2].set(xlabel="exact change (nats)", ylabel="first-order estimate (nats)")
    return figure


if __name__ == "__main__":
    parts = {
        "sensitivity": Part(Sensitivity, measure_sensitivity),
        "exact": Part(Erasure, measure_exact),
        "estimate": Part(FirstOrder, measure_estimate),
    }
    recipe("air_sensitivity", parts, draw, about=__doc__, n=60)
