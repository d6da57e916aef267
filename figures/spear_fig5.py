"""SPEAR Fig. 5: the share of attention on the image, on the sink and on all other text, by layer.

Draws the saved result; `--recompute` measures it anew on captioned test scenes: python figures/spear_fig5.py --recompute [--model scenes].
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from interp.analysis.budget import SinkBudget, SinkShares
from interp.plot.budgets import separated
from interp.plot.style import style

HERE = Path(__file__).parent
DATA = HERE / "data" / "spear_fig5.safetensors"


def recompute(name: str, n: int, seed: int) -> SinkShares:
    """Measure the mean shares over n captioned test scenes."""
    import interp
    from interp.methods.spear import with_sinks
    from interp.world import scenes

    model = interp.load(name)
    prompts = [model.prepare(s.image, "Describe the image in detail.") for s in scenes("test", n, seed)]
    replies = interp.generate(model, prompts)
    found = interp.measure(
        model, [with_sinks(model, p.with_response(r)) for p, r in zip(prompts, replies, strict=True)], SinkBudget()
    )
    return SinkShares(found.mean("share"), found[0].layers, found[0].sinks)


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.recompute:
        torch.set_num_threads(2)
        recompute(options.model, options.n, options.seed).save(DATA)
    if not DATA.exists():
        raise SystemExit(f"{DATA.name} is missing; make it with: python {Path(__file__).name} --recompute")
    with style():
        figure, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
        separated(SinkShares.load(DATA), ax=ax)
        for ending in ("png", "pdf"):
            figure.savefig(
                DATA.parent.parent / f"{DATA.stem}.{ending}",
                metadata={"CreationDate": None} if ending == "pdf" else {},
            )


if __name__ == "__main__":
    main()
