"""What the spectra of all heads cost from the weights alone, against dense eigenvalues: python benchmarks/weights.py.

One decoder layer of LLaVA-1.5-7B's shape (32 heads of 128, width 4096) with random weights in bfloat16 stands for all 32 layers, so
that memory stays small; the dense eigenvalues of one head's 4096 × 4096 matrix are worked out once and counted 1,024 times.
"""

import resource

import torch
from timing import Claim, compared, parser, record, seconds, stated

from interp.analysis.spectrum import spectrum
from interp.data.heads import HeadWeights
from interp.families.base import family
from interp.models.head_weights import head_weights

SHAPES = {
    "llava7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mid": {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16},
}
WHAT = "statistics of W_QK of all heads, from weights"
FASTER = {
    torch.float64: Claim(WHAT, "dense eigenvalues of every head's D × D matrix, in float64 as ours", 1000, "at least"),
    torch.float32: Claim(WHAT, "dense eigenvalues of every head's D × D matrix, in float32", 1000, "at least"),
}
MEMORY = Claim(WHAT, "peak memory beyond the weights, in GB", 1.0)


def peak() -> float:
    """Return the most memory this process has held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def layer_of(size: str) -> tuple[torch.nn.Module, object]:
    """Return one decoder layer with random weights, and the configuration it is of."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[size], num_key_value_heads=SHAPES[size]["num_attention_heads"], intermediate_size=64)
    return LlamaDecoderLayer(config, 0).to(torch.bfloat16).requires_grad_(False), config


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, rounds=1, sizes=tuple(SHAPES))
    given = options.parse_args()
    torch.set_num_threads(1)
    layer, config = layer_of(given.size)
    shape = SHAPES[given.size]
    layers, heads = shape["num_hidden_layers"], shape["num_attention_heads"]

    def weights(_: int) -> HeadWeights:
        return head_weights(layer, family("llama"), config)

    torch.linalg.eigvals(torch.eye(64))  # what its first call loads is not counted
    before = peak()
    ours = [seconds(lambda: spectrum(weights, range(layers))) for _ in range(given.rounds)]
    beyond = peak() - before
    own = weights(0)
    dense = own.W_K[0].T @ own.W_Q[0]
    found = [stated(MEMORY, [beyond], size=given.size)]
    for dtype, claim in FASTER.items():
        base = layers * heads * seconds(lambda d=dtype: torch.linalg.eigvals(dense.to(d)))
        note = "one head timed, times all heads"
        found.append(compared(claim, [base] * given.rounds, ours, size=given.size, note=note))
    record(found)


if __name__ == "__main__":
    main()
