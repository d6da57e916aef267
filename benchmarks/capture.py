"""What looking costs: one pass with patterns, gradients and residuals, and taps that nothing looks at, against plain transformers.

    python benchmarks/capture.py                       the embedded model
    python benchmarks/capture.py --size mid            a LLaVA of 16 layers, 16 heads, 576 image tokens; random weights
    python benchmarks/capture.py --clock cpu           processor seconds, where other programs keep the machine busy

Plain transformers and this package take turns in one process; what is printed is the median of the ratios of the pairs.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import interp
from interp.families import family
from interp.storage import write_text

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AIMS = {"pass with gradients": 1.05, "forward": 1.02, "decoding": 1.02, "decoding with interp.generate": 1.02}


def embedded() -> tuple[torch.nn.Module, Any]:
    """Return the model that ships with the package."""
    model = interp.load("scenes")
    return type(model.module)(model.config).eval(), model.processor


def mid() -> tuple[torch.nn.Module, Any]:
    """Return a LLaVA with random weights whose images are 24 × 24 tokens."""
    from transformers import LlavaForConditionalGeneration

    small, processor = family("llava").tiny()
    config = small.config
    sizes = {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16, "num_attention_heads": 16}
    sizes |= {"num_key_value_heads": 16, "head_dim": 64, "initializer_range": 0.02}
    for name, value in sizes.items():
        setattr(config.text_config, name, value)
    config.vision_config.image_size, config.vision_config.patch_size, config.image_seq_length = 336, 14, 576
    processor.patch_size = 14
    processor.image_processor.size = {"shortest_edge": 336}
    processor.image_processor.crop_size = {"height": 336, "width": 336}
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval(), processor


def plain_pass(module: torch.nn.Module, inputs: dict[str, Any], row: int, token: int) -> Any:
    """Return patterns, residuals and the gradients of the patterns, the way one writes it by hand."""
    begin = module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    try:
        out = module(**inputs, use_cache=False, output_attentions=True, output_hidden_states=True)
    finally:
        begin.remove()
    loss = -out.logits[0, row].float().log_softmax(-1)[token]
    return out.attentions, out.hidden_states, torch.autograd.grad(loss, out.attentions)


def contests(
    module: torch.nn.Module, processor: Any, new: int
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return, by name, plain transformers' way and ours."""
    plain = copy.deepcopy(module).requires_grad_(False)
    model = interp.load(module, processor=processor)
    picture = np.random.default_rng(0).integers(0, 255, (336, 336, 3), dtype=np.uint8)
    prompt = model.prepare(picture, "Describe what can be seen in the image, please.", response="A chair.")
    inputs, target = model.inputs([prompt]), prompt.layout.positions(interp.Segment.RESPONSE)[0]
    print(f"{model!r}, {len(prompt)} tokens, {len(prompt.layout.positions(interp.Segment.IMAGE))} of them image")

    def eager() -> Any:
        plain.set_attn_implementation("eager")
        return plain_pass(plain, inputs, target - 1, prompt.ids[target])

    def captured() -> Any:
        return interp.capture(model, prompt, want={"pattern", "resid_post"}, grad={"pattern"}, target=0)

    def forward(which: torch.nn.Module) -> Any:
        with torch.no_grad():
            return which(**inputs, use_cache=False)

    def decode(which: torch.nn.Module) -> Any:
        return which.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False)

    def sdpa(work: Callable[[torch.nn.Module], Any]) -> Any:
        plain.set_attn_implementation("sdpa")
        return work(plain)

    options = {"max_new_tokens": new, "min_new_tokens": new}
    return {
        "pass with gradients": (eager, captured),
        "forward": (lambda: sdpa(forward), lambda: forward(model.module)),
        "decoding": (lambda: sdpa(decode), lambda: decode(model.module)),
        "decoding with interp.generate": (lambda: sdpa(decode), lambda: interp.generate(model, prompt, **options)),
    }


def compared(
    pair: tuple[Callable[[], Any], Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Return the seconds of both in every round, and the median and quartiles of their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 1):
        for side in (0, 1) if index % 2 else (1, 0):
            begin = clock()
            pair[side]()
            if index:  # the first round warms up
                times[side].append(clock() - begin)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"plain": times[0], "ours": times[1], "ratio": middle, "quartiles": (low, high)}


def main() -> None:
    """Measure, print a table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="embedded", choices=["embedded", "mid"])
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--new", type=int, default=24)
    parser.add_argument("--only", nargs="*", choices=AIMS)
    given = parser.parse_args()
    found = {}
    for name, pair in contests(*(mid() if given.size == "mid" else embedded()), given.new).items():
        if given.only and name not in given.only:
            continue
        found[name] = one = compared(pair, given.rounds, CLOCKS[given.clock])
        (low, high), plain, ours = one["quartiles"], statistics.median(one["plain"]), statistics.median(one["ours"])
        print(
            f"{name:30} plain {plain * 1e3:9.1f} ms  ours {ours * 1e3:9.1f} ms  "
            f"ratio {one['ratio']:.3f} [{low:.3f}, {high:.3f}]  aim {AIMS[name]:.2f}"
        )
    settings = {**vars(given), "threads": torch.get_num_threads(), "torch": torch.__version__}
    write_text(
        f"runs/benchmarks/capture-{given.size}.json", json.dumps({"settings": settings, "found": found}, indent=1)
    )


if __name__ == "__main__":
    main()
