"""How much memory `measure` takes with every analysis in one call, against a plain forward pass: python benchmarks/memory.py.

Analyses that need the gradient of one target and those that need every token's cannot share a call, so there are three calls: those
without gradients, and these together with either kind. Every run has a process of its own, which loads the model, runs a shorter
conversation to warm up, and then runs what is measured. Two readings are taken of it: the peak of the process, which has Python, torch
and the model in it as the peak of a plain forward pass has; and how much of that is beyond what the process had before the run. The
results that a call returns are part of both; how large they are is noted beside.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from sizes import PICTURE, llava
from timing import Claim, Measured, record, stated

import interp

PLAIN = {"sdpa": "a plain forward pass on sdpa", "eager": "a plain forward pass on eager attention"}
CALLS = {
    "values": "every analysis without gradients",
    "position": "these and every analysis of each token's gradient",
    "full": "these and every analysis of one target's gradient",
}
READINGS = {
    "process": "peak memory of the process in `measure` of {}",
    "beyond": "peak memory beyond the loaded model in `measure` of {}",
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

    import interp.analysis
    from interp.analysis.base import Analysis

    modules = [
        importlib.import_module(f"interp.analysis.{m.name}") for m in pkgutil.iter_modules(interp.analysis.__path__)
    ]
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


def status(line: str) -> int:
    """Return a line of what Linux says of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) * 1024 for one in lines if one.startswith(line))


def fullest(run: str, layers: int, tokens: int) -> dict[str, int]:
    """Return how much memory one run had at its fullest, how much of it beyond the loaded model, and how large its results are."""
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**18)
    model = model_of(layers)
    work(run, model, prompt_of(model, 640))
    prompt = prompt_of(model, tokens)
    ctypes.CDLL(None).malloc_trim(0)
    loaded = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    began = time.process_time()
    found = work(run, model, prompt)
    spent = time.process_time() - began
    results = found if isinstance(found, tuple) else ()
    returned = sum(getattr(r, n).nbytes for r in results for n in r.axes())
    peak = status("VmHWM")
    return {"process": peak, "beyond": peak - loaded, "returned": returned, "seconds": round(spent)}


def against_plain(call: str, ours: dict[str, int], plain: dict[str, dict[str, int]], size: str) -> list[Measured]:
    """Return both readings of a call over those of plain forward passes."""
    said = []
    for reading, what in READINGS.items():
        for run, other in plain.items():
            note = f"{_mib(ours[reading])}, {_mib(ours['returned'])} of it results; {PLAIN[run]} {_mib(other[reading])}"
            claim = Claim(what.format(CALLS[call]), PLAIN[run], 2.0)
            said.append(stated(claim, [ours[reading] / other[reading]], size=size, note=note))
    return said


def against_fewer(call: str, ours: dict[int, dict[str, int]], size: str) -> Measured:
    """Return what the deepest model takes beyond itself over what the shallowest does."""
    many, few = max(ours), min(ours)
    claim = Claim(READINGS["beyond"].format(CALLS[call]), f"{many} layers against {few}", 1.1)
    sizes = (f"{_mib(ours[n]['beyond'])} at {n} layers, {_mib(ours[n]['returned'])} of it results" for n in (many, few))
    return stated(claim, [ours[many]["beyond"] / ours[few]["beyond"]], size=size, note="; ".join(sizes))


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def measured(run: str, layers: int, tokens: int) -> dict[str, int]:
    """Run one in a process of its own and print what it found."""
    call = [sys.executable, __file__, "--tokens", str(tokens), "--one", run, str(layers)]
    found = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout)  # noqa: S603
    print(run, layers, {n: x if n == "seconds" else _mib(x) for n, x in found.items()}, flush=True)
    return found


def main() -> None:
    """Measure each run in a process of its own; write down every claim as soon as it can be stated."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=2048)
    options.add_argument("--layers", type=int, nargs="*", default=[8, 16])
    options.add_argument(
        "--only", nargs="*", choices=[*CALLS], default=[*CALLS], help="the calls; plain passes run always"
    )
    options.add_argument("--one", nargs=2, metavar=("RUN", "LAYERS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.one:
        sys.stdout.write(json.dumps(fullest(given.one[0], int(given.one[1]), given.tokens)))
        return
    size, deepest = f"mid, {given.tokens} tokens", max(given.layers)
    plain = {run: measured(run, deepest, given.tokens) for run in PLAIN}
    for call in given.only:
        ours = {deepest: measured(call, deepest, given.tokens)}
        record(against_plain(call, ours[deepest], plain, size))
        if len(given.layers) > 1:
            ours[min(given.layers)] = measured(call, min(given.layers), given.tokens)
            record([against_fewer(call, ours, size)])


if __name__ == "__main__":
    main()
