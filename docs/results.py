"""Measure the papers' claims on the embedded model, and write docs/results.md. Run: python docs/results.py [--n 60] [--seed 0].

The tables of methods come from tables/ (`python tables/make.py`), the sensitive heads from figures/air_sensitivity.py.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

import interp
from interp.analysis.anchors import VisualAnchors
from interp.analysis.budget import Budget, SinkBudget
from interp.analysis.saliency import ResponseSaliency
from interp.analysis.sensitivity import Sensitivity
from interp.analysis.similarity import HeadSimilarity
from interp.analysis.sinks import Sinks
from interp.analysis.statistics import Comparison, compare_groups
from interp.data.prompt import Prompt
from interp.data.storage import write_text
from interp.experiments.sinks import sink_study
from interp.experiments.tasks import drawn_tasks
from interp.loading import EMBEDDED
from interp.methods.spear import with_sinks
from interp.models.model import Model
from interp.world import scenes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "figures"), str(ROOT / "tables")]
from captions import CAPTION, Captioned, captioned  # noqa: E402  # neighbours', found by the line above
from make import every_method  # noqa: E402

HEADER = """# Results on the embedded model

Measured by `{command}` on {model!r}, absolute weights summing to {checksum}; methods by `python tables/make.py`.
The model is small and was trained on a drawn world (see [the world](world.md)). All measurements are reported, including
those that do not support a paper's claim.

## The papers' claims

A claim is *shown* when the whole 95 % interval is on its side of zero (of ½ for an AUROC), *contradicted* when it is on the other
side, and *not shown* otherwise. The absolute figures in the papers are for models thousands of times larger.

"""
METHODS = {
    "pope": "Existence questions (POPE's format; the parts are the three ways to choose absent objects; the parser is `strict`).",
    "chair": "Detailed captions (CHAIR's counts, which are exact here because every object in a scene is known).",
    "mme": "Pairs of yes/no questions (MME's format), which the model learned for existence only: it answers yes to the others.",
    "steps": "Questions that take several steps.",
}
TABLES = """Half of the scenes of the first two tables are counter-prior: an object that usually accompanies another object of the scene is
absent. The other half are the same scenes without that other object. Δ is the paired difference from greedy decoding, with 95 % bootstrap
intervals over scenes; p and q belong to the paired test, with q over all methods. AIR and AD-HH act on the six most sensitive
heads, which were selected on other scenes.

"""
COST = """Tokens per second relative to greedy decoding: replies of 32 tokens to one prompt, one thread, processor time, with the methods
taking turns; median and quartiles of {rounds} rounds. SPEAR's detection of sinks is included. The overhead per step weighs more on
so small a model than on a large one: see [performance](performance.md).

"""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and its measurement: a value that is positive if the claim holds, with its interval."""

    paper: str
    says: str
    value: float
    low: float
    high: float
    unit: str

    def row(self) -> dict[str, str]:
        """Return the row of the table."""
        shown = "shown" if self.low > 0 else "contradicted" if self.high < 0 else "not shown"
        value = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return {"paper": self.paper, "claim": self.says, "measured": f"{value} {self.unit}", "here": shown}


def claim(paper: str, says: str, values: Sequence[float], unit: str) -> Claim:
    """Return a claim from one value per sample: the mean with its bootstrap interval."""
    array = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).choice(array, (2000, len(array))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Claim(paper, says, float(array.mean()), float(low), float(high), unit)


def of_auroc(paper: str, says: str, result: Comparison) -> Claim:
    """Return the claim that correct mentions score above hallucinated ones."""
    low, high = result.auroc_interval or (0.0, 1.0)
    return Claim(paper, says, (result.auroc or 0.5) - 0.5, low - 0.5, high - 0.5, "AUROC above ½")


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """Return a table as Markdown."""
    shown = table.map(lambda v: f"{v:.{digits}f}" if isinstance(v, float) else str(v))
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + "---|" * len(shown.columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in shown.to_numpy().tolist())])


def sinks_section(model: Model, said: Sequence[Captioned]) -> tuple[str, list[Claim]]:
    """Which tokens are sinks, from which layer (SPEAR Table 1), and how attention is shared (SPEAR Figs. 2 and 5)."""
    tables, budgets = interp.measure(model, [c.prompt for c in said], Sinks(), Budget())
    lines = pd.DataFrame([line for t in tables for line in t.rows()])
    text = f"Over {len(tables)} captioned test scenes (ε = 0.3, in at least a third of the layers):\n\n"
    if lines.empty:
        best = torch.stack([t.received.mean(1).amax(0)[:10] for t in tables]).mean(0)
        text += f"No token is a sink; the most attended of the first ten receives {float(best.max()):.3f} in its highest layer.\n"
        return text, []
    grouped = lines.groupby(["position", "token"])
    found = grouped.agg(
        scenes=("received", "count"), received=("received", "mean"), massive_ratio=("massive_ratio", "median")
    )
    found["layers"] = grouped["layers"].agg(lambda rows: f"{min(map(min, rows))}..{max(map(max, rows))}")
    found["massive"] = grouped["massive"].mean()
    table = pd.DataFrame(
        budgets.mean("share").mean(1).numpy(), columns=["SYSTEM (with the sink)", "IMAGE", "USER", "RESPONSE"]
    )
    text += (
        markdown(found.reset_index()) + "\n\nShare of attention from the emitting rows of the caption, by layer:\n\n"
    )
    split = interp.measure(model, [with_sinks(model, c.prompt) for c in said], SinkBudget())
    middle = slice(model.layers // 3, 2 * model.layers // 3 + 1)
    image, words, sink = split.stack("share").mean(2)[:, middle].mean(1).unbind(-1)
    claims = [
        claim("SPEAR", "in the middle layers, most attention goes to the sink", (sink - 0.5).tolist(), "share above ½"),
        claim(
            "SPEAR",
            "without the sink, image and text receive about the same (difference below .1)",
            (0.1 - (image - words).abs()).tolist(),
            "share",
        ),
    ]
    return text + markdown(table.rename_axis("layer").reset_index()), claims


def causal_section(model: Model, n: int, seed: int) -> tuple[str, list[Claim]]:
    """What breaks without the sink (SPEAR Fig. 4 and its tables)."""
    study = sink_study(model, drawn_tasks(model, scenes("test", n, seed)), batch_size=32)
    lines = study.frame().set_index("prompt")
    of = {(task, how, which): mine["quality"] for (task, how, which), mine in lines.groupby(["task", "how", "tokens"])}
    claims = []
    for task in ("caption", "several steps"):
        before, masked, zero, mean = (
            of[task, how, which]
            for how, which in (("none", "nothing"), *((h, "sink") for h in ("mask", "zero", "mean")))
        )
        claims += [
            claim("SPEAR", f"masking the sink harms the {task} task", (before - masked).tolist(), "quality lost"),
            claim(
                "SPEAR", f"a mean value harms the {task} task more than a zero one", (zero - mean).tolist(), "quality"
            ),
        ]
    return markdown(study.table()), claims


def drift_section(model: Model, said: Sequence[Captioned]) -> tuple[str, list[Claim]]:
    """How the maps of visual attention move away from their anchors (CLVA Fig. 2)."""
    found = interp.measure(model, [c.prompt for c in said], VisualAnchors())
    rows = {n: found.stack(n).nanmean((0, 2)) for n in ("r_positive", "r_negative", "entropy")}
    table = pd.DataFrame({n: v.numpy() for n, v in rows.items()}).rename_axis("layer").reset_index()
    middle = found[0].middle
    drift = [float((r.r_positive[middle] - r.r_positive[-1]).nanmean()) for r in found]
    noise = [float((r.r_negative[-1] - r.r_negative[middle]).nanmean()) for r in found]
    claims = [
        claim("CLVA", "maps drift away from the positive visual anchor towards the last layer", drift, "r lost"),
        claim("CLVA", "the noise of the first layer returns in the last", noise, "r gained"),
    ]
    first = f"Positive visual anchor: layer {middle}; negative: layer {found[0].first}. Means over caption tokens:\n\n"
    return first + markdown(table), claims


def saliency_section(model: Model, said: Sequence[Captioned]) -> tuple[str, list[Claim]]:
    """Whether correct mentions are more salient than hallucinated ones (LVLMs-Saliency Table 4, Fig. 8)."""
    found = interp.measure(model, [c.prompt for c in said], ResponseSaliency())
    picked = [c.hallucinated | c.correct for c in said]
    flags = torch.cat([c.hallucinated[m] for c, m in zip(said, picked, strict=True)])
    lines, claims = [], []
    for key in ("own", "previous", "output"):
        scores = torch.cat([r.score(key)[m] for r, m in zip(found, picked, strict=True)])
        result = compare_groups(scores, flags)
        low, high = result.auroc_interval or (float("nan"), float("nan"))
        lines.append(
            {
                "score": key,
                "hallucinated": result.n_hallucinated,
                "correct": result.n_correct,
                "mean hallucinated": result.mean_hallucinated,
                "mean correct": result.mean_correct,
                "Cohen's d": result.cohens_d,
                "AUROC": result.auroc,
                "95 %": f"[{low:.3f}, {high:.3f}]",
                "p": result.p_value,
            }
        )
        claims.append(of_auroc("LVLMs-Saliency", f"hallucinated mentions are less salient (score `{key}`)", result))
    return "On counter-prior scenes:\n\n" + markdown(pd.DataFrame(lines)), claims


def heads_section() -> tuple[str, list[Claim]]:
    """Which heads help hallucinated tokens more than correct ones (AIR supplement A.1), from the data of the figures."""
    data = ROOT / "figures" / "data"
    result = Sensitivity.load(data / "air_sensitivity.sensitivity.safetensors")
    similarity = HeadSimilarity.load(data / "air_similarity.similarity.safetensors")
    ranked, least = result.top(8), result.top(6, most=False)
    named = {"E": result.effect_size, "S": result.score, "q": result.q_value}
    lines = [{"head": f"{a}.{b}", **{n: float(v[a, b]) for n, v in named.items()}} for a, b in ranked]
    alike = [[float(similarity.similarity[p]) for p in which] for which in (result.top(6), least)]
    found = int((result.q_value < 0.05).sum())
    text = (
        f"Ablated at the step: {result.n_hallucinated} hallucinated and {result.n_correct} correct mentions; {found} of "
        f"{result.score.numel()} heads at q < 0.05 (`python figures/air_sensitivity.py --recompute`).\n\n"
    )
    (first, second), *_ = ranked
    claims = [
        Claim(
            "AIR",
            f"some heads help hallucinations more than correct words (head {first}.{second})",
            *(float(v[first, second]) for v in (result.score, result.low, result.high)),
            "ΔP",
        ),
        claim(
            "AIR",
            "sensitive heads attend more like the language model than insensitive ones (pairs by rank)",
            np.subtract(*alike).tolist(),
            "cosine",
        ),
    ]
    return text + markdown(pd.DataFrame(lines)), claims


def methods_section() -> tuple[str, list[Claim]]:
    """Return the tables of methods, and each paper's claim about its own method."""
    text, claims = TABLES, []
    for name, about in METHODS.items():
        path = ROOT / "tables" / f"{name}.md"
        if not path.exists():
            raise SystemExit(f"tables/{name}.md is missing; make it with: python tables/make.py --only {name}")
        text += f"### {name}\n\n{about}\n\n{path.read_text(encoding='utf-8').strip()}\n\n"
    chair = pd.read_csv(ROOT / "tables" / "chair.csv")
    chair = chair[chair["part"] == "total"].set_index("method")
    ours = {
        "tame": "TAME",
        "air": "AIR",
        "spear": "SPEAR",
        "locore": "LVLMs-Saliency",
        "sgrs": "LVLMs-Saliency",
        "clva": "CLVA",
    }
    for method, paper in ours.items():
        value, high, low = (-float(chair.loc[method, f"chair_s_difference{b}"]) for b in ("", "_low", "_high"))
        claims.append(Claim(paper, f"{method} reduces hallucination in captions", value, low, high, "CHAIR_s lost"))
    tame = Comparison.load(ROOT / "figures" / "data" / "tame_fig2.captions.safetensors")
    claims.append(of_auroc("TAME", "captions without a hallucination have the higher propagation probability", tame))
    return text.rstrip(), claims


def cost_section(model: Model, prompt: Prompt, rounds: int = 5, new: int = 32) -> tuple[str, list[Claim]]:
    """Return the decoding speed of every method."""
    interventions = {
        "greedy": (),
        **{type(m).__name__.lower(): (m,) for m in every_method(slow=True) if not m.refusal(model)},
    }
    times: dict[str, list[float]] = {n: [] for n in interventions}
    torch.set_num_threads(1)
    for index in range(rounds + 1):
        for name, edits in interventions.items():
            begin = time.process_time()
            interp.generate(model, prompt, *edits, max_new_tokens=new, min_new_tokens=new)
            times[name] += [time.process_time() - begin] * (index > 0)  # the first round warms up
    speed = {n: np.quantile(np.divide(times["greedy"], t), [0.25, 0.5, 0.75]) for n, t in times.items()}
    table = pd.DataFrame(
        [
            {"method": n, "tokens/s ×": f"{middle:.2f} [{low:.2f}, {high:.2f}]"}
            for n, (low, middle, high) in speed.items()
        ]
    )
    return COST.format(rounds=rounds) + markdown(table), []


def note_methods() -> None:
    """Write the scores of each method at the end of its own page."""
    tables = {n: pd.read_csv(ROOT / "tables" / f"{n}.csv") for n in METHODS}
    scores = {"chair": ("chair_s", "recall"), "pope": ("accuracy",), "steps": ("steps",)}
    said = {
        "chair_s": "CHAIR_s",
        "recall": "recall",
        "accuracy": "accuracy of existence questions",
        "steps": "right steps",
    }
    for page in sorted((HERE / "methods").glob("*.md")):
        parts = []
        for name, columns in scores.items():
            table = tables[name][tables[name]["part"] == "total"].set_index("method")
            if page.stem in table.index:
                row, base = table.loc[page.stem], table.iloc[0]
                parts += [
                    f"{said[c]} {base[c]:.3f} → {row[c]:.3f} (Δ {row[f'{c}_difference']:+.3f} "
                    f"[{row[f'{c}_difference_low']:+.3f}, {row[f'{c}_difference_high']:+.3f}])"
                    for c in columns
                ]
        if parts:
            text = page.read_text(encoding="utf-8").split("\n**Measured here.**")[0].rstrip()
            about = "On the embedded model, against greedy decoding (`python tables/make.py`, 95 % intervals of paired differences):"
            write_text(
                page,
                f"{text}\n\n**Measured here.** {about}\n" + ";\n".join(parts) + ". See [results](../results.md).\n",
            )


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60, help="scenes; half as many in the causal study (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results.md")
    options = parser.parse_args()
    model = interp.load("scenes")
    said = captioned(model, options.n, options.seed)
    inviting = captioned(model, options.n, options.seed, split="counter_prior")
    sections = {
        "Attention sinks": sinks_section(model, said),
        "What breaks without the sink": causal_section(model, options.n // 2, options.seed),
        "Visual anchors and drift": drift_section(model, said),
        "Saliency of hallucinated and correct mentions": saliency_section(model, inviting),
        "Head sensitivity": heads_section(),
        "Methods against greedy decoding": methods_section(),
        "What the methods cost": cost_section(model, model.prepare(said[0].scene.image, CAPTION)),
    }
    weights = load_file(str(Path(interp.__file__).parent / EMBEDDED["scenes"] / "model.safetensors"))
    checksum = sum(float(w.double().abs().sum()) for w in weights.values())
    command = f"python docs/results.py --n {options.n} --seed {options.seed}"
    claims = sorted((c.row() for _, found in sections.values() for c in found), key=lambda r: r["paper"])
    text = (
        HEADER.format(command=command, model=model, checksum=f"{checksum:.6g}") + markdown(pd.DataFrame(claims)) + "\n"
    )
    text += "".join(f"\n## {title}\n\n{section}\n" for title, (section, _) in sections.items())
    write_text(options.out, text)
    if options.out == HERE / "results.md":
        note_methods()


if __name__ == "__main__":
    main()
