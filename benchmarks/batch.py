"""How much faster sixteen questions are answered in one left-padded batch than one by one.

python benchmarks/batch.py                         the model that ships with the package
python benchmarks/batch.py --size small            a LLaVA of 16 layers, 8 heads, 576 image tokens; random weights
"""

import torch
from sizes import PICTURE, SIZES, loaded
from timing import Claim, compared, parser, record, rounds_of

import interp
from interp.world import scenes


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
    options.add_argument("--new", type=int, nargs="*", default=[8, 32], help="how many tokens each reply has")
    given = options.parse_args()
    torch.set_num_threads(1)
    model = loaded(given.size, given.device)
    prompts = questions(model, given.size, given.count)
    print(f"{model!r}, {len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens")
    for new in given.new:
        settings = {"max_new_tokens": new, "min_new_tokens": new}
        works = [
            lambda s=settings: [interp.generate(model, p, **s) for p in prompts],
            lambda s=settings: interp.generate(model, prompts, **s),
        ]
        what = f"{given.count} questions in one left-padded batch, replies of {new} tokens"
        claim = Claim(what, "the same one by one", 3, "at least")
        base, ours = rounds_of(works, given.rounds, given.device)
        record([compared(claim, base, ours, size=given.size, device=given.device)])


if __name__ == "__main__":
    main()
