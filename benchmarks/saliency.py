"""How much faster the saliency of every response token is from one backward pass than from one pass per token.

    python benchmarks/saliency.py                      a LLaVA of 16 layers, 16 heads, 576 image tokens; random weights
    python benchmarks/saliency.py --size embedded      the model that ships with the package

The passes that are compared with are one per token in plain transformers, parameters frozen; one is timed for a token in the middle of the
reply, and counted once per token.
"""

import copy
from typing import Any

import torch
from capture import plain_pass
from sizes import SIZES, TOKENS, asked, parts
from timing import Claim, compared, parser, record, rounds_of

import interp
from interp.analysis.saliency import ResponseSaliency

CLAIM = Claim(
    "the saliency rows of all tokens of a 40-token reply",
    "one forward and backward pass in eager transformers per token",
    25,
    "at least",
)


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, rounds=3, sizes=("mid", *(s for s in SIZES if s != "mid")))
    options.add_argument("--reply", type=int, default=40, help="how many tokens the reply has")
    given = options.parse_args()
    torch.set_num_threads(1)
    module, processor = parts(given.size, given.device)
    plain = copy.deepcopy(module).requires_grad_(False)
    plain.set_attn_implementation("eager")
    model = interp.load(module, processor=processor)
    prompt = asked(model, reply=given.reply, length=None if given.size == "embedded" else TOKENS)
    inputs, reply = model.inputs([prompt]), prompt.layout.positions(interp.Segment.RESPONSE)
    at = reply[len(reply) // 2]
    print(f"{model!r}, {len(prompt)} tokens, {len(reply)} of them reply")

    def one() -> Any:
        return plain_pass(plain, inputs, at - 1, prompt.ids[at])

    def every() -> Any:
        return interp.measure(model, prompt, ResponseSaliency())

    each, ours = rounds_of([one, every], given.rounds, given.device)
    base = [len(reply) * t for t in each]
    record([compared(CLAIM, base, ours, size=given.size, device=given.device, note="one pass timed, times all tokens")])


if __name__ == "__main__":
    main()
