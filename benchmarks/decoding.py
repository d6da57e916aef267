"""How much slower each method decodes than plain sdpa greedy decoding: interleaved rounds, medians of the ratios.

python benchmarks/decoding.py                          the embedded model
python benchmarks/decoding.py --model random --size 7b --device cuda --dtype bfloat16
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

import interp
from interp.conformance import _attention as attention_of
from interp.heads import Heads
from interp.methods.adhh import Adhh
from interp.methods.air import Air
from interp.methods.clva import Clva
from interp.methods.contrast import Contrast
from interp.methods.locore import Locore
from interp.methods.sgrs import Sgrs
from interp.methods.spear import Spear
from interp.methods.tame import Tame
from interp.methods.vaf import Vaf

SIZES = {
    "small": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 16, "num_attention_heads": 8},
    "medium": {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16, "num_attention_heads": 16},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
AIMS = {"Sgrs": 1.6, "Contrast": 2.1}
"""What each method may cost; 1.10 for the others."""


def random_llava(size: str, device: str, dtype: str) -> interp.Model:
    """Return a LLaVA-1.5 with random weights: 576 image tokens, the tiny model's processor on pictures of 336 × 336 pixels."""
    from transformers import LlavaForConditionalGeneration

    from interp.families import family

    small, processor = family("llava").tiny()
    config = small.config
    for name, value in SIZES[size].items():
        setattr(config.text_config, name, value)
    config.text_config.num_key_value_heads = config.text_config.num_attention_heads
    config.text_config.head_dim = config.text_config.hidden_size // config.text_config.num_attention_heads
    config.text_config.max_position_embeddings = 4096
    config.text_config.initializer_range = 0.02
    config.vision_config.image_size, config.vision_config.patch_size, config.image_seq_length = 336, 14, 576
    processor.patch_size = 14
    processor.image_processor.size, processor.image_processor.crop_size = (
        {"shortest_edge": 336},
        {"height": 336, "width": 336},
    )
    with torch.device(device):
        torch.set_default_dtype(getattr(torch, dtype))
        module = LlavaForConditionalGeneration(config).eval()
        torch.set_default_dtype(torch.float32)
    return interp.load(module, processor=processor)


def methods(model: interp.Model) -> dict[str, Any]:
    """Return every method by name, with as many heads as the papers take."""
    count = max(2, 20 * model.layers * model.heads // 1024)
    pairs = [(i * 7 % model.layers, i * 5 % model.heads) for i in range(count)]
    heads = Heads(tuple(pairs))
    chosen = (Vaf(), Spear(), Locore(), Adhh(heads), Air(heads), Tame(), Clva(part="decoder"), Sgrs(), Contrast())
    return {type(m).__name__: m for m in chosen}


def clock(model: interp.Model) -> float:
    """Return the time: on a CPU that of this process alone, whatever else the machine does; wall time on an accelerator."""
    if model.device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(model: interp.Model, prompt: interp.Prompt, changes: tuple, new: int) -> float:
    """Return how long a reply of `new` tokens takes."""
    begin = clock(model)
    interp.generate(model, prompt, *changes, max_new_tokens=new, min_new_tokens=new, seed=0)
    return clock(model) - begin


def plain_seconds(model: interp.Model, prompt: interp.Prompt, new: int) -> float:
    """Return how long the model takes with transformers' own sdpa attention and `generate`, the taps out of the way."""
    with attention_of(model, "sdpa"), torch.no_grad():
        inputs = model.inputs([prompt])
        begin = clock(model)
        model.module.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        return clock(model) - begin


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = random_llava(given.size, given.device, given.dtype) if given.model == "random" else interp.load(given.model)
    picture = np.random.default_rng(0).integers(0, 255, (336, 336, 3), dtype=np.uint8)
    prompt = model.prepare(picture, "Describe the image.").marked(sink=[0])
    tried = {n: (m,) for n, m in methods(model).items() if not given.only or n in given.only}
    times: dict[str, list[float]] = {n: [] for n in ("sdpa", "taps", *tried)}
    for index in range(given.rounds + 1):
        measured = {"sdpa": plain_seconds(model, prompt, given.new)}
        measured |= {n: seconds(model, prompt, c, given.new) for n, c in {"taps": (), **tried}.items()}
        if index:  # the first round warms up
            for name, value in measured.items():
                times[name].append(value)
    where = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"{model!r} on {where}, {len(prompt)} prompt tokens, {given.new} new, {given.rounds} interleaved rounds")
    for name, values in times.items():
        ratios = [v / p for v, p in zip(values, times["sdpa"], strict=True)]
        aim = AIMS.get(name, 1.10)
        low, middle, high = statistics.quantiles(ratios, n=4)
        each = statistics.median(values) / given.new * 1e3
        print(f"{name:9} {each:8.2f} ms/token  ratio {middle:5.2f} [{low:.2f}, {high:.2f}]  aim {aim:.2f}")


if __name__ == "__main__":
    main()
