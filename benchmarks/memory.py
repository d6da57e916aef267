"""How much memory `measure` takes with every analysis in one call, against a plain forward pass: python benchmarks/memory.py.

Analyses that need the gradient of one target and those that need every token's cannot share a call, so there are three calls: those
without gradients, and these together with either kind. Every run has a process of its own, which loads the model, runs a shorter
conversation to warm up, notes how much memory it has, and reports how much more it had at its fullest. The results that a call
returns are part of that; how large they are is noted beside.

Where it goes, per layer of 2,048 tokens and 16 heads: the pattern of all rows is 256 MiB, which plain sdpa never makes. Without
gradients one pattern is held and made in place, head by head, but for the scores where an analysis reads these too. With gradients
there are a pattern, its gradient and what the softmax's backward makes of the two, 256 MiB each, and the graph's own.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from sizes import PICTURE, llava
from timing import Claim, Measured, record, stated

import interp

PLAIN = {"sdpa": "a plain forward pass on sdpa", "eager": "a plain forward pass on eager attention"}
CALLS = {
    "values": "peak memory of `measure`, every analysis without gradients",
    "position": "peak memory of `measure`, these and every analysis of each token's gradient",
    "full": "peak memory of `measure`, these and every analysis of one target's gradient",
}
REPLY = 32
MMAP_THRESHOLD = -3
"""The setting of glibc's `mallopt` from which size on memory is given back as soon as it is freed; otherwise holes are counted too."""


def model_of(layers: int) -> interp.Model:
    """Return the mid-sized model."""
    module, processor = llava("mid", num_hidden_layers=layers)
    return interp.load(module, processor=processor)


def prompt_of(model: interp.Model, tokens: int) -> interp.Prompt:
    """Return a conversation of so many tokens: an image, a long question, and a reply."""
    word = model.tokenizer("chair", add_special_tokens=False)["input_ids"][-1]
    inputs = dict(model.prepare(PICTURE, "What is it?").inputs)
    short = inputs["input_ids"]
    inputs["input_ids"] = torch.cat([short, torch.full((1, tokens - REPLY - short.shape[1]), word)], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return model.prepare(inputs=inputs).with_response([word] * REPLY).marked(sink=(0,))


def analyses(gradient: str) -> list[Any]:
    """Return every analysis with its default settings, by what its gradients are of; "" is for those without."""
    import importlib
    import pkgutil

    from interp.analysis import Analysis, __path__

    modules = [importlib.import_module(f"interp.analysis.{m.name}") for m in pkgutil.iter_modules(__path__)]
    values = [v for m in modules for v in vars(m).values() if isinstance(v, type) and issubclass(v, Analysis)]
    made = [kind() for kind in dict.fromkeys(values) if kind is not Analysis]
    return [a for a in made if (a.gradient if a.grad else "") == gradient]


def work(run: str, model: interp.Model, prompt: interp.Prompt) -> Any:
    """Do what is measured."""
    if run in PLAIN:
        model.module.set_attn_implementation(run)
        with torch.no_grad():
            return model.module(**model.inputs([prompt]), use_cache=False)
    kinds = [*analyses(""), *(analyses(run) if run != "values" else [])]
    return interp.measure(model, prompt, *kinds, target=3 if run == "full" else None)


def resident() -> int:
    """Return how much memory this process has, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def fullest(run: str, layers: int, tokens: int) -> dict[str, int]:
    """Return how much memory one run had beyond the loaded model at its fullest, and how large its results are."""
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**18)
    model = model_of(layers)
    work(run, model, prompt_of(model, 640))
    prompt = prompt_of(model, tokens)
    ctypes.CDLL(None).malloc_trim(0)
    loaded, highest, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            highest[0] = max(highest[0], resident())

    watching = threading.Thread(target=watch)
    watching.start()
    found = work(run, model, prompt)
    done.set()
    watching.join()
    results = found if isinstance(found, tuple) else ()
    returned = sum(getattr(r, n).nbytes for r in results for n in r.axes())
    return {"tokens": len(prompt), "beyond": highest[0] - loaded, "returned": returned}


def claims(found: dict[str, dict[int, dict[str, int]]], few: int, many: int) -> list[Measured]:
    """Return the ratios that were found."""
    said = []
    for call in found.keys() & CALLS.keys():
        ours = {layers: one["beyond"] for layers, one in found[call].items()}
        sizes = f"{ours[many] >> 20} MiB at {many} layers, {found[call][many]['returned'] >> 20} MiB of it results"
        for run in found.keys() & PLAIN.keys():
            plain = found[run][many]["beyond"]
            ratio = ours[many] / plain
            said.append(
                stated(
                    Claim(CALLS[call], PLAIN[run], 2.0), [ratio], size="mid", note=f"{sizes}; plain {plain >> 20} MiB"
                )
            )
        if few != many:
            against = f"{many} layers against {few}"
            said.append(stated(Claim(CALLS[call], against, 1.1), [ours[many] / ours[few]], size="mid", note=sizes))
    return sorted(said, key=lambda one: (one.what, one.against))


def main() -> None:
    """Measure each run in a process of its own, print and write down."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=2048)
    options.add_argument("--layers", type=int, nargs="*", default=[8, 16])
    options.add_argument("--only", nargs="*", choices=[*PLAIN, *CALLS], default=[*PLAIN, *CALLS])
    options.add_argument("--one", nargs=2, metavar=("RUN", "LAYERS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.one:
        sys.stdout.write(json.dumps(fullest(given.one[0], int(given.one[1]), given.tokens)))
        return
    found: dict[str, dict[int, dict[str, int]]] = {}
    for run in given.only:
        for layers in given.layers if run in CALLS else [max(given.layers)]:
            call = [sys.executable, __file__, "--tokens", str(given.tokens), "--one", run, str(layers)]
            said = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
            found.setdefault(run, {})[layers] = one = json.loads(said)
            print(run, layers, {n: x if n == "tokens" else f"{x >> 20} MiB" for n, x in one.items()}, flush=True)
    record(claims(found, min(given.layers), max(given.layers)))


if __name__ == "__main__":
    main()
