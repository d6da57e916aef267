"""How much faster the exact head sweep is than one full forward pass per head: `python benchmarks/sweep.py`.

The two take turns, so that whatever else the machine does slows both down. The model is a Llama with random weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import interp
from interp.experiments.erasure import erase_heads
from interp.families.llama import tiny
from interp.interventions.heads import AblateHeads
from interp.model import Model
from interp.prompt import Prompt


def model_of(layers: int, heads: int, dim: int) -> Model:
    """Return a Llama of the given size with random weights."""
    _, tokenizer = tiny()
    config = LlamaConfig(
        hidden_size=dim,
        intermediate_size=3 * dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return interp.load(LlamaForCausalLM(config), processor=tokenizer)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one_forward(model: Model, prompt: Prompt, pair: tuple[int, int]) -> None:
    """Run the whole model with one head erased."""
    interp.capture(model, prompt, want={"logits"}, changes=(AblateHeads((pair,)),))


def main() -> None:
    """Print the ratio for each way to erase."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"layers": 8, "heads": 8, "dim": 256, "prompt": 300, "reply": 24, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    model = model_of(asked.layers, asked.heads, asked.dim)
    prompt = model.prepare(text="x" * asked.prompt, response="y" * asked.reply)
    pairs = [(layer, layer % asked.heads) for layer in range(asked.layers)]
    taken: dict[str, list[float]] = {"step": [], "all": [], "forward": []}
    for _ in range(asked.rounds):
        taken["forward"].append(statistics.mean(seconds(lambda p=p: one_forward(model, prompt, p)) for p in pairs))
        taken["step"].append(seconds(lambda: erase_heads(model, prompt, at="step")))
        taken["all"].append(seconds(lambda: erase_heads(model, prompt, at="all")))
    count, forward = asked.layers * asked.heads, statistics.median(taken["forward"])
    print(
        f"{count} heads, prompt {len(prompt) - asked.reply}, reply {asked.reply}; one forward {1000 * forward:.0f} ms"
    )
    for at in ("step", "all"):
        whole = statistics.median(taken[at])
        print(
            f"at={at}: all heads {whole:.2f} s, one forward per head {count * forward:.2f} s: {count * forward / whole:.1f} x"
        )


if __name__ == "__main__":
    main()
