"""How much slower each method decodes than plain sdpa greedy decoding.

python benchmarks/decoding.py                                  the embedded model, every method
python benchmarks/decoding.py --size mid --methods vaf spear   a LLaVA of 16 layers, 16 heads, 576 image tokens; random weights
python benchmarks/decoding.py --size mid --methods sgrs --length 1280   the same behind a prompt twice as long
python benchmarks/decoding.py --size llava7b --device cuda
"""

import copy
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

import torch
from sizes import SIZES, TOKENS, asked, parts
from timing import Claim, Work, compared, parser, record, rounds_of
from torch import nn

import interp
from interp.data.heads import Heads
from interp.interventions.method import Method, methods
from interp.taps.audit import NothingChanged

AIMS = {1: 1.10, 2: 2.10, 3: 1.60}
"""What a method may cost by its passes a token: forward alone, a second stream, a backward for the upper layers."""
PUBLISHED = 20 / 1024
"""The share of all heads that AIR and AD-HH choose."""


def chosen(kind: type[Method], model: interp.Model) -> Method:
    """Return a method with its published settings; where it needs heads, as large a share of the model's as published."""
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    if not needed:
        return kind()
    count = max(2, round(PUBLISHED * model.layers * model.heads))
    spread = Heads(tuple((i * 7 % model.layers, i * 5 % model.heads) for i in range(count)))
    return kind(**{n: spread for n in needed if n == "heads"})


def tried(model: interp.Model, names: Sequence[str]) -> dict[str, Method]:
    """Return the methods of some names, or all that fit the model."""
    each = {n: chosen(k, model) for n, k in methods().items() if not names or n in names}
    for name, reason in {n: m.refusal(model) for n, m in each.items()}.items():
        if reason:
            print(f"{name} left out: {reason}")
    return {n: m for n, m in each.items() if not m.refusal(model)}


def works(plain: nn.Module, model: interp.Model, prompt: interp.Prompt, each: Sequence[Method], new: int) -> list[Work]:
    """Return decoding `new` tokens with the plain model, with idle taps, and under each method."""
    inputs: dict[str, Any] = model.inputs([prompt])
    length = {"max_new_tokens": new, "min_new_tokens": new}

    def under(*interventions: Method) -> Work:
        return lambda: interp.generate(model, prompt, *interventions, **length)

    return [lambda: plain.generate(**inputs, **length, do_sample=False), under(), *(under(m) for m in each)]


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, rounds=7, sizes=("embedded", *(s for s in SIZES if s != "embedded")))
    options.add_argument("--methods", nargs="*", default=(), choices=methods(), help="which; all by default")
    options.add_argument("--new", type=int, default=48, help="how many tokens are decoded")
    options.add_argument("--length", type=int, help="about how many tokens the question has; what it has on its own")
    given = options.parse_args()
    size = f"{given.size}, {given.length} tokens" if given.length else given.size
    torch.set_num_threads(1)
    module, processor = parts(given.size, given.device)
    plain = copy.deepcopy(module).requires_grad_(False)
    plain.set_attn_implementation("sdpa")
    model = interp.load(module, processor=processor)
    prompt = asked(model, length=given.length or (None if given.size == "embedded" else TOKENS)).marked(sink=[0])
    each = tried(model, given.methods)
    print(f"{model!r}, {len(prompt)} prompt tokens, {given.new} new, {given.rounds} interleaved rounds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingChanged)  # with random weights, hardly any head looks at text enough
        base, *rest = rounds_of(works(plain, model, prompt, list(each.values()), given.new), given.rounds, given.device)
    aims = {"idle taps": 1.02, **{n: AIMS.get(m.passes, 1.05 * m.passes) for n, m in each.items()}}
    for (name, aim), times in zip(aims.items(), rest, strict=True):
        claim = Claim(f"decoding under {name}", "plain sdpa greedy decoding", aim)
        note = f"{statistics.median(times) / given.new * 1e3:.3g} ms a token"
        record([compared(claim, base, times, size=size, device=given.device, note=note)])


if __name__ == "__main__":
    main()
