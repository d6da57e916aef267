"""How much faster the exact head sweep is than one pass per head, and its first-order estimate than the sweep.

    python benchmarks/sweep.py                       a LLaVA of 16 layers, 16 heads, 576 image tokens; random weights
    python benchmarks/sweep.py --size embedded       the model that ships with the package
    python benchmarks/sweep.py --size embedded --length 300      the same in a longer conversation
    python benchmarks/sweep.py --size llava7b --device cuda

Where a whole sweep would take minutes, the heads of four layers stand for all: what more of them add to a sweep of a few is multiplied.
Passes and steps that are compared with are timed one by one and multiplied by how many the sweep would need.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from sizes import SIZES, TOKENS, asked, loaded
from timing import Claim, Work, compared, parser, record, rounds_of

import interp
from interp.analysis.sensitivity import HeadAttribution, agreement
from interp.experiments.erasure import erase_heads
from interp.interventions.heads import AblateHeads

REPLY = 40
STEP, ALL = (
    "exact erasure of every head at the step, all tokens of a 40-token reply",
    "exact erasure of every head at all positions",
)
ESTIMATE = "first-order estimate for every head and token"
CLAIMS = {
    "step": Claim(STEP, "one full forward per head", 10, "at least"),
    "loop": Claim(STEP, "AD-HH's loop: one cached step per head and token", 40, "at least"),
    "all": Claim(ALL, "one full forward per head", 2, "at least"),
    "estimate": Claim(ESTIMATE, "one full forward per head", 50, "at least"),
    "estimate-step": Claim(ESTIMATE, "this package's exact sweep at the step, which it estimates", 50, "at least"),
    "estimate-all": Claim(ESTIMATE, "this package's exact sweep at all positions", 50, "at least"),
}


def cached_step(model: interp.Model, prompt: interp.Prompt) -> Work:
    """Return one step of decoding at the end of the reply, one head erased by hand, behind the cache of a clean run."""
    inputs = model.inputs([prompt])
    with torch.no_grad():
        cache = model.module(**inputs, use_cache=True).past_key_values
    cache.crop(-1)
    last = inputs["input_ids"][:, -1:]
    projection = model.blocks[model.layers // 2].get_submodule(model.family.attention).o_proj

    def erase(_: Any, args: tuple) -> tuple:
        z = args[0].clone()
        z[..., : model.head_dim] = 0
        return (z,)

    def work() -> None:
        handle = projection.register_forward_pre_hook(erase)
        with torch.no_grad():
            model.module(input_ids=last, past_key_values=cache, use_cache=True)
        handle.remove()
        cache.crop(-1)

    return work


def full_pass(model: interp.Model, prompt: interp.Prompt) -> Work:
    """Return one pass over the whole conversation, one head erased."""
    head = AblateHeads(((model.layers // 2, 0),))
    return lambda: interp.capture(model, prompt, want={"logits"}, interventions=(head,))


def sweep(model: interp.Model, prompt: interp.Prompt, at: str, heads: Sequence[tuple[int, int]] | None) -> Work:
    """Return an exact sweep over some heads, all by default."""
    return lambda: erase_heads(model, prompt, at=at, heads=heads)


def representative(model: interp.Model, each: int) -> list[tuple[int, int]]:
    """Return `each` heads of four layers whose mean depth is that of all layers."""
    layers = [round(part * (model.layers - 1)) for part in (0, 1 / 3, 2 / 3, 1)]
    return [(layer, head) for layer in layers for head in range(each)]


def whole(few: Sequence[float], more: Sequence[float], tried: tuple[int, int], of: int) -> list[float]:
    """Return what a sweep of all heads takes, from sweeps of few heads and of more of the same layers."""
    share = (of - tried[0]) / (tried[1] - tried[0])
    return [a + (b - a) * share for a, b in zip(few, more, strict=True)]


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, rounds=3, sizes=("mid", *(s for s in SIZES if s != "mid")))
    options.add_argument("--reply", type=int, default=REPLY, help="how many tokens the reply has")
    options.add_argument(
        "--each", type=int, default=1, help="how many heads of a layer stand for all, at all positions"
    )
    options.add_argument("--length", type=int, help="about how many tokens the question has; what it has on its own")
    given = options.parse_args()
    torch.set_num_threads(1)
    model = loaded(given.size, given.device)
    prompt = asked(model, reply=given.reply, length=given.length or (None if given.size == "embedded" else TOKENS))
    size = f"{given.size}, {len(prompt)} tokens" if given.length else given.size
    reply, heads = len(prompt.response_ids), model.layers * model.heads
    small = heads <= 64
    print(f"{model!r}, {len(prompt)} tokens, {reply} of them reply")
    some = {"step": (model.heads // 2, model.heads), "all": (given.each, 2 * given.each)}
    picked = {at: [representative(model, n) for n in each] for at, each in some.items()}
    works = {
        "forward": full_pass(model, prompt),
        "cached": cached_step(model, prompt),
        "estimate": lambda: interp.measure(model, prompt, HeadAttribution()),
    }
    for at, (few, more) in picked.items():
        works |= (
            {at: sweep(model, prompt, at, None)}
            if small
            else {
                f"{at} few": sweep(model, prompt, at, few),
                f"{at} more": sweep(model, prompt, at, more),
            }
        )
    taken = dict(zip(works, rounds_of(list(works.values()), given.rounds, given.device), strict=True))
    if not small:
        for at, (few, more) in picked.items():
            taken[at] = whole(taken[f"{at} few"], taken[f"{at} more"], (len(few), len(more)), heads)
    step, everywhere, every = taken["step"], taken["all"], picked["step"][1]
    passes = [heads * t for t in taken["forward"]]
    loop = [heads * reply * t for t in taken["cached"]]
    exact, estimate = erase_heads(model, prompt, heads=every), interp.measure(model, prompt, HeadAttribution())
    ranks = [r for r in agreement(exact, estimate).values() if r is not None]
    said = f"median rank correlation with the exact sweep at the step {statistics.median(ranks):.3f} over {len(ranks)} tokens"
    pairs = {
        "step": (passes, step, ""),
        "loop": (loop, step, ""),
        "all": (passes, everywhere, ""),
        "estimate": (passes, taken["estimate"], said),
        "estimate-step": (step, taken["estimate"], said),
        "estimate-all": (everywhere, taken["estimate"], ""),
    }
    record(
        [
            compared(CLAIMS[name], base, ours, size=size, device=given.device, note=note)
            for name, (base, ours, note) in pairs.items()
        ]
    )


if __name__ == "__main__":
    main()
