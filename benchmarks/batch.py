"""How much faster sixteen questions are answered in one left-padded batch than one by one.

python benchmarks/batch.py                         the model that ships with the package
python benchmarks/batch.py --size small            a LLaVA of 16 layers, 8 heads, 576 image tokens; random weights
"""

import torch
from sizes import PICTURE, SIZES, loaded
from timing import Claim, compared, parser, record, rounds_of

import interp
from interp.world import scenes

CLAIM = Claim("16 questions in one left-padded batch", "the same one by one", 3, "at least")


def questions(model: interp.Model, size: str, count: int) -> list[interp.Prompt]:
    """Return questions of different lengths about different pictures."""
    if size == "embedded":
        return [
            model.prepare(s.image, f"Is there a {'very ' * (i % 5)}small chair in the image?")
            for i, s in enumerate(scenes("test", count, 0))
        ]
    return [model.prepare(PICTURE, "Is there a chair?" + " Look again." * (i % 5)) for i in range(count)]


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, sizes=("embedded", *(s for s in SIZES if s != "embedded")))
    options.add_argument("--count", type=int, default=16, help="how many questions")
    options.add_argument("--new", type=int, default=8, help="how many tokens each reply has")
    given = options.parse_args()
    torch.set_num_threads(1)
    model = loaded(given.size, given.device)
    prompts = questions(model, given.size, given.count)
    settings = {"max_new_tokens": given.new, "min_new_tokens": given.new}
    print(f"{model!r}, {len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens")
    base, ours = rounds_of(
        [
            lambda: [interp.generate(model, p, **settings) for p in prompts],
            lambda: interp.generate(model, prompts, **settings),
        ],
        given.rounds,
        given.device,
    )
    note = f"{given.new} new tokens each"
    record([compared(CLAIM, base, ours, size=given.size, device=given.device, note=note)])


if __name__ == "__main__":
    main()
