"""TAME Fig. 2: propagation probability of captions with and without a hallucination, and ρ(θ) over ξ and η.

Left: the share of tokens in the linear part of the softmax, mean over heads, layers and the rows that emit the caption; one number
per caption of a scene that invites a hallucination. Right: ρ at the place θ of the sequence for random weights of chosen ξ and η, by
the published formula, by the corrected one, and by simulation of the underlying random walk.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe

from interp.analysis.propagation import propagation_probability, random_walk_propagation
from interp.analysis.spectrum import head_spectrum
from interp.analysis.statistics import Comparison, compare_groups
from interp.data.heads import HeadWeights
from interp.plot.comparison import distributions
from interp.plot.style import CYCLE

CHOSEN = ((4.0, 0.3), (4.0, 3.0), (0.5, 1.0))
WIDTH = 16
PLACES = 64


def measure_captions(setting: Setting) -> Comparison:
    """Compare captions with a hallucination with the others."""
    from captions import captioned

    import interp
    from interp.analysis.empirical import EmpiricalPropagation
    from interp.data.tokens import EMITTING

    model = setting.loaded
    said = captioned(model, setting.n, setting.seed, split="counter_prior")
    found = interp.measure(model, [c.prompt for c in said], EmpiricalPropagation(EMITTING))
    shares = torch.stack([r.share.mean() for r in found])
    return compare_groups(shares, torch.tensor([bool(c.hallucinated.any()) for c in said]))


def symmetric_weights(xi: float, eta: float, seed: int) -> HeadWeights:
    """Return one head whose W_QK is symmetric with the ξ and η asked for: random eigenvalues, shifted and scaled."""
    drawn = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)).double()
    drawn = (drawn - drawn.mean()) / (drawn - drawn.mean()).norm()
    side = xi / WIDTH**0.5  # ξ = √n · cos of the angle between the eigenvalues and (1, ..., 1)
    values = side * torch.ones(WIDTH, dtype=torch.float64) / WIDTH**0.5 + (1 - side**2) ** 0.5 * drawn
    scale = WIDTH**-0.5
    query, none = (eta / scale) * values.diag()[None], torch.zeros(1, WIDTH)
    eye = torch.eye(WIDTH)[None]
    return HeadWeights(query.float(), eye, eye, eye, none, none, none, scale)


def measure_curves(setting: Setting) -> pd.DataFrame:
    """Compute ρ by both formulas and by simulation."""
    theta = torch.arange(1, PLACES + 1) / PLACES
    rows = []
    for xi, eta in CHOSEN:
        weights = symmetric_weights(xi, eta, setting.seed)
        s = head_spectrum(weights)
        drawn = torch.Generator().manual_seed(setting.seed)
        curves = {
            kind: propagation_probability(theta, s.trace, s.trace_symmetric, scale=weights.scale, variance=kind)[0]
            for kind in ("as_published", "corrected")
        }
        curves["simulated"] = random_walk_propagation(weights, length=PLACES, samples=8192, generator=drawn)[0]
        measured = {"xi": float(s.xi), "eta": float(s.eta)}
        rows += [
            {**measured, "kind": kind, "theta": float(t), "rho": float(v)}
            for kind, curve in curves.items()
            for t, v in zip(theta, curve, strict=True)
        ]
    return pd.DataFrame(rows)


def draw(captions: Comparison, curves: pd.DataFrame) -> Figure:
    """Draw both panels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained")
    distributions(captions, "share of tokens in the linear part", ax=left)
    left.set_ylabel("share of captions")
    for index, ((xi, eta), one) in enumerate(curves.groupby(["xi", "eta"], sort=False)):
        colour = CYCLE[index]
        for kind, line in (("as_published", ":"), ("corrected", "-")):
            own = one[one["kind"] == kind]
            label = f"ξ = {xi:.1f}, η = {eta:.1f}" if kind == "corrected" else None
            right.plot(own["theta"], own["rho"], line, color=colour, label=label)
        drawn = one[one["kind"] == "simulated"].iloc[3::4]
        right.plot(drawn["theta"], drawn["rho"], "o", color=colour, markersize=3.5, markerfacecolor="none")
    for style, name in (("-", "corrected variance"), (":", "as published")):
        right.plot([], [], style, color="black", label=name)
    right.plot([], [], "o", color="black", markersize=3.5, markerfacecolor="none", label="simulated random walk")
    right.set(xlabel="place θ in the sequence", ylabel="propagation probability ρ", xlim=(0, 1), ylim=(0, 1))
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


if __name__ == "__main__":
    parts = {"captions": Part(Comparison, measure_captions), "curves": Part(pd.DataFrame, measure_curves)}
    recipe("tame_fig2", parts, draw, about=__doc__, n=100)
