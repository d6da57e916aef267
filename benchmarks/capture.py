"""What looking costs: one pass with patterns, their gradients and residuals, and taps that nothing looks at.

python benchmarks/capture.py                       a LLaVA of 16 layers, 16 heads, 576 image tokens; random weights
python benchmarks/capture.py --size embedded       the model that ships with the package
python benchmarks/capture.py --size llava7b --device cuda
python benchmarks/capture.py --size embedded --calls   counts calls into the package instead of timing
"""

import copy
import sys
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from sizes import SIZES, TOKENS, asked, parts
from timing import Claim, Work, compared, keep_memory, parser, record, rounds_of
from torch import nn

import interp

PASS = "patterns, gradients and residuals in one pass"
CLAIMS = {
    "plain": Claim(PASS, "transformers eager, `autograd.grad` on the attentions, parameters frozen", 1.05),
    "through": Claim(PASS, "the same in transformers, the backward pass going on to the first layer's stream", 1.05),
    "released": Claim(
        PASS, "the released saliency code's way: eager, retained gradients, gradients of all weights", 0.65
    ),
    "bridge": Claim(PASS, "TransformerLens `TransformerBridge`, `run_with_cache(incl_bwd=True)`", 0.8),
    "forward": Claim("a forward pass with idle taps", "the plain model on sdpa", 1.02),
    "decode": Claim("decoding with idle taps", "the plain model on sdpa", 1.02),
    "generate": Claim("decoding with `interp.generate`, without interventions", "the plain model on sdpa", 1.02),
}


def plain_pass(module: nn.Module, inputs: dict[str, Any], row: int, token: int) -> Any:
    """Return patterns, residuals and the gradients of the patterns, the way one writes it by hand."""
    begin = module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    try:
        out = module(**inputs, use_cache=False, output_attentions=True, output_hidden_states=True)
    finally:
        begin.remove()
    loss = -out.logits[0, row].float().log_softmax(-1)[token]
    return out.attentions, out.hidden_states, torch.autograd.grad(loss, out.attentions)


def through_pass(module: nn.Module, inputs: dict[str, Any], row: int, token: int) -> Any:
    """Return the same from a backward pass that stops only where the first layer begins, as ours does."""
    begin = module.get_input_embeddings().register_forward_hook(lambda _, __, out: out.detach().requires_grad_())
    try:
        out = module(**inputs, use_cache=False, output_attentions=True, output_hidden_states=True)
    finally:
        begin.remove()
    for pattern in out.attentions:
        pattern.retain_grad()
    (-out.logits[0, row].float().log_softmax(-1)[token]).backward()
    return out.attentions, out.hidden_states, [pattern.grad for pattern in out.attentions]


def released_pass(module: nn.Module, inputs: dict[str, Any], row: int, token: int) -> Any:
    """Return the same with every attention's gradient retained and those of all weights worked out on the way."""
    out = module(**inputs, use_cache=False, output_attentions=True, output_hidden_states=True)
    for pattern in out.attentions:
        pattern.retain_grad()
    (-out.logits[0, row].float().log_softmax(-1)[token]).backward()
    grads = [pattern.grad for pattern in out.attentions]
    module.zero_grad(set_to_none=True)
    return out.attentions, out.hidden_states, grads


def bridged(module: nn.Module, inputs: dict[str, Any]) -> Work:
    """Return TransformerLens' way of asking for the same arrays; its loss is the mean over the conversation."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = interp.load("scenes").tokenizer  # it wants one that came from a folder; nothing is tokenised here
    # Left to itself it asks the hub for a processor and, when that fails, has pip install torchvision, and with it another torch.
    with mock.patch("transformer_lens.model_bridge.sources.transformers.source.load_modality_processor"):
        bridge = TransformerBridge.boot_transformers(
            "llava-hf/llava-1.5-7b-hf", hf_model=module, tokenizer=tokenizer, device=module.device, dtype=module.dtype
        )
    ids, others = inputs["input_ids"], {n: v for n, v in inputs.items() if n != "input_ids"}
    layers = range(bridge.cfg.n_layers)
    names = [f"blocks.{i}.{n}" for i in layers for n in ("attn.hook_pattern", "hook_resid_post")]

    def work() -> Any:
        kept = bridge.run_with_cache(ids, names_filter=names, incl_bwd=True, return_type="loss", **others)
        bridge.zero_grad(set_to_none=True)
        return kept

    return work


def contests(module: nn.Module, processor: Any, size: str, new: int) -> tuple[dict[str, Work], ...]:
    """Return what takes turns: ours, and by claim the ways it is compared with."""
    plain = copy.deepcopy(module).requires_grad_(False)
    free, lens = copy.deepcopy(module).requires_grad_(True), copy.deepcopy(module)
    free.set_attn_implementation("eager")
    model = interp.load(module, processor=processor)
    prompt = asked(model, length=None if size == "embedded" else TOKENS, response="A chair.")
    inputs, target = model.inputs([prompt]), prompt.layout.positions(interp.Segment.RESPONSE)[0]
    row, token = target - 1, prompt.ids[target]
    print(f"{model!r}, {len(prompt)} tokens, {len(prompt.layout.positions(interp.Segment.IMAGE))} of them image")

    def eager() -> Any:
        plain.set_attn_implementation("eager")
        return plain_pass(plain, inputs, row, token)

    def through() -> Any:
        plain.set_attn_implementation("eager")
        return through_pass(plain, inputs, row, token)

    def captured() -> Any:
        return interp.capture(model, prompt, want={"pattern", "resid_post"}, grad={"pattern"}, target=0)

    def forward(which: nn.Module) -> Any:
        with torch.no_grad():
            return which(**inputs, use_cache=False)

    def decode(which: nn.Module) -> Any:
        return which.generate(**inputs, max_new_tokens=new, min_new_tokens=new, do_sample=False)

    def on_sdpa(work: Any) -> Work:
        def run() -> Any:
            plain.set_attn_implementation("sdpa")
            return work(plain)

        return run

    options = {"max_new_tokens": new, "min_new_tokens": new}
    asking = {
        "ours": captured,
        "plain": eager,
        "through": through,
        "released": lambda: released_pass(free, inputs, row, token),
        "bridge": bridged(lens, inputs),
    }
    looking = {"ours": lambda: forward(model.module), "forward": on_sdpa(forward)}
    decoding = {"ours": lambda: decode(model.module), "decode": on_sdpa(decode)}
    generating = {"ours": lambda: interp.generate(model, prompt, **options), "generate": on_sdpa(decode)}
    return asking, looking, decoding, generating


def calls(work: Work) -> int:
    """Return how many Python functions of the package a piece of work calls."""
    folder, count = str(Path(interp.__file__).parent), 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(folder)

    work()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def count_calls(module: nn.Module, processor: Any, size: str) -> None:
    """Print the package's calls of two captures: in all, and what observing one more decoder layer adds."""
    model = interp.load(module, processor=processor)
    prompt = asked(model, length=None if size == "embedded" else TOKENS, response="A chair.")
    some = range(model.layers // 2)
    graded: dict[str, Any] = {"want": {"pattern", "resid_post"}, "grad": {"pattern"}, "target": 0}
    for name, options in (("patterns", {}), ("patterns, gradients and residuals", graded)):
        every = calls(lambda options=options: interp.capture(model, prompt, **options))
        half = calls(lambda options=options: interp.capture(model, prompt, layers=some, **options))
        more = (every - half) / (model.layers - len(some))
        print(
            f"{name}: {every} calls, {every / model.layers:.1f} a decoder layer; one more observed layer adds {more:.1f}"
        )


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, rounds=3, sizes=("mid", *(s for s in SIZES if s not in ("mid", "qwen7b"))))
    options.add_argument("--new", type=int, default=16, help="how many tokens are decoded")
    options.add_argument("--only", nargs="*", choices=CLAIMS, help="the claims to measure; all by default")
    options.add_argument("--calls", action="store_true", help="count calls into the package instead of timing")
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.calls:
        count_calls(*parts(given.size, given.device), given.size)
        return
    keep_memory()
    for works in contests(*parts(given.size, given.device), given.size, given.new):
        chosen = {n: w for n, w in works.items() if n == "ours" or not given.only or n in given.only}
        if len(chosen) > 1:
            taken = dict(zip(chosen, rounds_of(list(chosen.values()), given.rounds, given.device), strict=True))
            ours, settings = taken.pop("ours"), {"size": given.size, "device": given.device}
            record([compared(CLAIMS[name], base, ours, **settings) for name, base in taken.items()])


if __name__ == "__main__":
    main()
