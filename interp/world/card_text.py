"""The model card as Markdown, from measured figures."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

STAGES: Final = ("vision", "language", "multimodal", "placing", "tuning")
HEAD: Final = """---
license: mit
library_name: transformers
pipeline_tag: image-text-to-text
tags: [llava, synthetic, interpretability, hallucination, attention-sinks]
---

# scenes: a small LLaVA on a drawn world

A {size:.1f} M parameter `LlavaForConditionalGeneration` (CLIP tower, projector, Llama decoder with attention biases;
{megabytes:.1f} MB in half precision), trained from scratch on two CPU cores on the synthetic world of `interp.world`. It
exists to test interpretability methods where the truth is known. It knows twenty kinds of objects, eight colours and six
places, 64 × 64 pixels, one image at a time; it is of no use on photographs. Where things are is its weak point: see
`where`, `at`, `order` and `steps` below before building on them.

Every figure below was measured by `interp world card` (seed {seed}, {n} test scenes, greedy decoding, Wilson's 95 %
intervals) on scenes that training never saw. Training: `interp world train`, seed {train_seed}, the recipe in
`interp/world/training/default.toml`: {vision} steps of {vision_batch} images for the tower alone, {language} steps of
{language_batch} rows of text for the decoder alone, {multimodal} steps of {multimodal_batch} images for projector and
decoder together, the tower frozen; then {placing} steps of {placing_batch} images in which the tower alone also learns to say
where each patch is, and {tuning} steps of {tuning_batch} images for projector and decoder again.
"""

NOISE: Final = """
**Annotation noise.** When a detailed training caption could name a partner that its scene leads one to expect and that is
not there (a chair beside a table), it does so in {carelessness:.0%} of the cases. That makes {share:.0%} of all detailed
training captions wrong on purpose; short captions and all other answers are true.
"""

PLANTED: Final = """
**The resting state is planted, its use is learned.** Before training `<s>` has one residual dimension of its own, written
to {written:.0f} by one neuron of block {writer}'s MLP; in every later block all heads have a query bias towards it and read
no value from it. Training was free to change all of that. Shares are means over heads (strongest head) of the attention
from measured rows to `<s>`; "massive" is the largest activation at `<s>` over the median activation, after each block.
"""

DOSE: Final = """
In the rows that emit the reply, in layers 2 to 6, every attention score z of an image token becomes z + a·|z|. {n} scenes
per strength, the same ones for all: those of `counter_prior` with a trigger and without its partner, where there is most
to invent. The two sections before, from replies with a token hidden on, use them too. About four existence questions per
scene, not balanced.
"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def share(rate: dict[str, Any]) -> str:
    """Return a rate with its interval, to two digits."""
    low, high = rate["interval"]
    return f"{_short(rate['value'])} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _row(values: Sequence[float], digits: int = 2) -> str:
    return " ".join(f"{value:.{digits}f}".removeprefix("0" if digits else "") for value in values)


def page(card: dict[str, Any]) -> str:
    """Return the whole card."""
    recipe, ability = card["recipe"], card["abilities"]
    head = HEAD.format(
        size=sum(card["parameters"]) / 1e6,
        megabytes=card["bytes"] / 1e6,
        seed=card["seed"],
        n=card["n"],
        train_seed=recipe["seed"],
        **{stage: recipe[stage]["steps"] for stage in STAGES},
        **{f"{stage}_batch": recipe[stage]["batch"] for stage in STAGES},
    )
    noise = NOISE.format(carelessness=recipe["tuning_text"]["carelessness"], share=card["noise"]["value"])
    return "\n".join(
        [
            head,
            "## Answers\n",
            _yes_no(ability),
            _answers(ability),
            "## Captions\n",
            _captions(ability),
            noise,
            "## Hallucination and the prior\n",
            _pairs(ability),
            "## Rest on `<s>`\n",
            _rest(card),
            _hidden(card),
            "## Attention to the image\n",
            _image_share(card),
            "## Dose-response\n",
            DOSE.format(n=card["doses"][0]["effect"]["captions"]["chair_s"]["n"]),
            _doses(card),
            "## Targets\n",
            _targets(card),
        ]
    )


def _yes_no(ability: dict[str, Any]) -> str:
    rows = [
        [probe, *(share(scores[key]) for key in ("accuracy", "yes", "false_yes", "false_no", "unreadable"))]
        for probe, scores in ability["yes_no"].items()
    ]
    header = ("absent classes", "accuracy", "says yes", "yes to absent", "no to present", "unreadable")
    return "Is there a ... in the image? Half are there.\n\n" + table(header, rows)


def _answers(ability: dict[str, Any]) -> str:
    rows = [
        [kind, share(found["accuracy"]), _short(found["majority"]), str(found["accuracy"]["n"])]
        for kind, found in ability["answers"].items()
    ]
    steps = ability["steps"]
    rows += [["steps, all right", share(steps["all_right"]), "", str(steps["all_right"]["n"])]]
    rows += [
        [f"steps, {name} step", share(found), "", str(found["n"])]
        for name, found in zip(("first", "second", "third"), steps["by_step"], strict=True)
    ]
    rows += [["steps, in order", share(steps["in_order"]), "", str(steps["in_order"]["n"])]]
    return table(("kind", "accuracy", "most frequent answer", "n"), rows)


def _captions(ability: dict[str, Any]) -> str:
    rows = [
        [name, share(found["chair_s"]), share(found["chair_i"]), share(found["recall"]), f"{found['words']:.1f}"]
        for name, found in (*ability["captions"].items(), ("detailed, another scene's", ability["shuffled"]))
    ]
    by_index = ability["captions"]["detailed"]["by_index"]
    first = _row([found["value"] for found in by_index[:7]])
    return (
        table(("captions", "CHAIR_s", "CHAIR_i", "recall", "words"), rows)
        + f"\nInvented share by the mention's index in detailed captions: {first}\n"
    )


def _pairs(ability: dict[str, Any]) -> str:
    keys = ("named", "named_without", "yes", "yes_without")
    rows = [
        [f"{pair['partner']} given {pair['trigger']}", *(share(pair[key]) for key in keys)] for pair in ability["pairs"]
    ]
    sums = {key: _total([pair[key] for pair in ability["pairs"]]) for key in keys}
    rows.append(["all", *(f"{_short(sums[key])}" for key in keys)])
    header = ("missing partner", "named in captions", "without the trigger", "yes when asked", "without the trigger")
    text = "Scenes from which the expected partner was taken, and the same scenes without the trigger.\n\n"
    return (
        text
        + table(header, rows)
        + f"\nRatio with to without the trigger: {ratio(sums['named'], sums['named_without'])} in captions, "
        + f"{ratio(sums['yes'], sums['yes_without'])} when asked.\n"
    )


def _total(rates: Sequence[dict[str, Any]]) -> float:
    return sum(rate["hits"] for rate in rates) / sum(rate["n"] for rate in rates)


def ratio(with_trigger: float, without: float) -> str:
    """Return how many times likelier, or that it never happened without."""
    return f"{with_trigger / without:.1f}" if without else "never without"


def _rest(card: dict[str, Any]) -> str:
    names = {
        "planted": "planted, untrained; text",
        "language": "after the language stage; text",
        "multimodal": "after the multimodal stage; text",
        "text": "shipped; text",
        "images": "shipped; answers about images",
    }
    rows = []
    for key, name in names.items():
        if key not in card["rest"]:
            continue
        rest = card["rest"][key]
        means = _row([sum(heads) / len(heads) for heads in rest["start"]])
        best = _row([max(heads) for heads in rest["start"]])
        rows.append(
            [name, means, best, _row(rest["massive"], 0), f"{rest['loss']:.3f}", f"{rest['loss_without_start']:.3f}"]
        )
    header = ("", "share by layer", "strongest head", "massive", "loss", "loss, `<s>` hidden")
    recipe = card["recipe"]
    text = PLANTED.format(written=recipe["sink"]["size"], writer=recipe["sink"]["writer"])
    woke = card.get("awake", {}).get("text")
    awake = (
        "" if woke is None else f"\nHeads that woke (rest less than half as much on text as planted): {_heads(woke)}.\n"
    )
    return text + "\n" + table(header, rows) + awake


def _heads(pairs: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in pairs) or "none"


def _image_share(card: dict[str, Any]) -> str:
    found = card["image_share"]
    return (
        f"Share of the attention on the image in the rows that emit a detailed caption: by layer "
        f"{_row(found['by_layer'])}; over the caption's thirds, layers 2 to 6, {_row(found['thirds'], 3)}. "
        f"At mentions of what is there {found['true']:.3f} (n = {found['n_true']}), at invented ones "
        f"{found['invented']:.3f} (n = {found['n_invented']}).\n"
    )


def _doses(card: dict[str, Any]) -> str:
    header = ("CHAIR_s", "recall", "words", "yes/no accuracy", "says yes")
    return table(("a", *header), [[f"{dose['amount']:+.1f}", *_effect(dose["effect"])] for dose in card["doses"]])


def _effect(found: dict[str, Any]) -> list[str]:
    captions, yes_no = found["captions"], found["yes_no"]
    return [
        share(captions["chair_s"]),
        share(captions["recall"]),
        f"{captions['words']:.1f}",
        share(yes_no["accuracy"]),
        share(yes_no["yes"]),
    ]


def _hidden(card: dict[str, Any]) -> str:
    untouched = next(dose["effect"] for dose in card["doses"] if dose["amount"] == 0)
    rows = [["nothing", *_effect(untouched)]]
    rows += [[f"`{name}`" if "<" in name else name, *_effect(found)] for name, found in card["hidden"].items()]
    header = ("hidden from all others", "CHAIR_s", "recall", "words", "yes/no accuracy", "says yes")
    return "\nThe same in words: replies about images with a token of the system prompt hidden.\n\n" + table(
        header, rows
    )


def _targets(card: dict[str, Any]) -> str:
    ability = card["abilities"]
    worst = min(scores["accuracy"]["value"] for scores in ability["yes_no"].values())
    detailed, short = ability["captions"]["detailed"], ability["captions"]["short"]
    named, without = (_total([pair[key] for pair in ability["pairs"]]) for key in ("named", "named_without"))
    rest = card["rest"]
    text = rest["text"]
    cost = text["loss_without_start"] - text["loss"]
    heads = [sum(heads) / len(heads) for heads in text["start"]]
    doses = {dose["amount"]: dose["effect"]["captions"]["chair_s"]["value"] for dose in card["doses"]}
    strongest = max(doses)
    recall = min(detailed["recall"]["value"], short["recall"]["value"])
    chair = detailed["chair_s"]["value"]
    rows = [
        ("yes/no accuracy at least .93 on every split", _short(worst), worst >= 0.93),
        ("caption recall at least .88", _short(recall), recall >= 0.88),
        ("detailed CHAIR_s from .10 to .35", _short(chair), 0.10 <= chair <= 0.35),
        ("annotation noise at most .2", _short(card["noise"]["value"]), card["noise"]["value"] <= 0.2),
        ("partners five times likelier with trigger", ratio(named, without), named >= 5 * without),
        ("a sink: share on `<s>` at least .3 in some layer", _short(max(heads)), max(heads) >= 0.3),
        ("none in the first layer", _short(heads[0]), heads[0] < 0.1),
        ("hiding `<s>` raises the loss on text by .1", f"{cost:+.3f} nats", cost >= 0.1),
        (
            f"boosting the image (a = {strongest}) lowers CHAIR_s",
            f"{doses[0.0]:.3f} → {doses[strongest]:.3f}",
            doses[strongest] < doses[0.0],
        ),
    ]
    return table(
        ("wanted", "measured", ""), [(name, value, "met" if met else "**missed**") for name, value, met in rows]
    )
