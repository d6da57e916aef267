"""How cost grows with tokens, layers, heads and samples: python benchmarks/growth.py; the curves go to docs/performance-growth.png.

A Llama of 4 layers, 4 heads of 32 and 256 tokens with random weights, one of these made larger at a time; the width grows with the heads.
The exponent is the slope of the logarithms over the larger half of the sizes, where what is fixed weighs least.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, machine, rounds_of

import interp
from interp.analysis.saliency import ResponseSaliency
from interp.analysis.sinks import Sinks
from interp.data.storage import write_text
from interp.experiments.erasure import erase_heads
from interp.families.llama import tiny_llama

USUAL = {"tokens": 256, "layers": 4, "heads": 4, "samples": 1}
ALONG = {"tokens": (128, 256, 512, 1024), "layers": (2, 4, 8, 16), "heads": (2, 4, 8, 16), "samples": (1, 2, 4, 8)}
REPLY = 16
PICTURE = Path(__file__).parents[1] / "docs" / "performance-growth.png"
VERBS: dict[str, Callable[[interp.Model, list[interp.Prompt]], Any]] = {
    "forward": lambda m, ps: [interp.capture(m, p, want={"logits"}) for p in ps],
    "capture with gradients": lambda m, ps: [interp.capture(m, p, grad={"pattern"}, target=0) for p in ps],
    "measure sinks": lambda m, ps: interp.measure(m, ps, Sinks(), progress=False),
    "saliency of the reply": lambda m, ps: interp.measure(m, ps, ResponseSaliency(), progress=False),
    "erase heads at the step": lambda m, ps: [erase_heads(m, p, at="step") for p in ps],
    "erase heads everywhere": lambda m, ps: [erase_heads(m, p, at="all") for p in ps],
}


def model_of(layers: int, heads: int) -> interp.Model:
    """Return a Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    _, tokenizer = tiny_llama()
    config = LlamaConfig(
        hidden_size=32 * heads,
        intermediate_size=96 * heads,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return interp.load(LlamaForCausalLM(config), processor=tokenizer)


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Return the slope of log seconds over log size, over the larger half."""
    half = len(sizes) // 2 - 1
    x, y = ([math.log(v) for v in values[half:]] for values in (sizes, seconds))
    return statistics.linear_regression(x, y).slope


def measured(along: str, rounds: int) -> list[dict[str, Any]]:
    """Return, for every verb, the median seconds at each size along one axis, and the exponent."""
    works = []
    for size in ALONG[along]:
        now = {**USUAL, along: size}
        model = model_of(now["layers"], now["heads"])
        prompt = model.prepare(text="x" * (now["tokens"] - REPLY), response="y" * REPLY)
        works += [lambda v=v, m=model, ps=[prompt] * now["samples"]: v(m, ps) for v in VERBS.values()]
    taken = [statistics.median(t) for t in rounds_of(works, rounds)]
    found = []
    for index, verb in enumerate(VERBS):
        seconds = taken[index :: len(VERBS)]
        found.append(
            {"verb": verb, "sizes": ALONG[along], "seconds": seconds, "exponent": exponent(ALONG[along], seconds)}
        )
    return [{"along": along, **f} for f in found]


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the curves, one panel an axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(ALONG), figsize=(13, 3.6), sharey=True, layout="constrained")
    for axes, along in zip(panels, ALONG, strict=True):
        for one, mark in zip((f for f in found if f["along"] == along), "osD^vP", strict=True):
            axes.loglog(one["sizes"], one["seconds"], marker=mark, label=f"{one['verb']}")
            axes.annotate(f"{one['exponent']:.2f}", (one["sizes"][-1], one["seconds"][-1]), fontsize=7, ha="left")
        axes.set_xlabel(along)
        axes.set_xticks(ALONG[along], [str(s) for s in ALONG[along]])
        axes.minorticks_off()
    panels[0].set_ylabel("processor seconds")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Measure, print, write down and draw."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    torch.set_num_threads(1)
    found = []
    for along in ALONG:
        found += measured(along, given.rounds)
        for one in found[-len(VERBS) :]:
            print(f"{one['verb']:26} along {along:8} exponent {one['exponent']:.2f}", flush=True)
    write_text(
        RESULTS / "growth.json", json.dumps({"machine": machine(), "rounds": given.rounds, "found": found}, indent=1)
    )
    draw(found, PICTURE)


if __name__ == "__main__":
    main()
