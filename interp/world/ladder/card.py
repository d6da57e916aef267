"""The page of a model of the ladder: the targets, the errors against the evidence, every figure with its interval."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np

from interp.world.card_text import table
from interp.world.decision import Shift
from interp.world.evaluation import total
from interp.world.evidence import Binned
from interp.world.ladder.config import Recipe
from interp.world.resting import Rest
from interp.world.scoring import CaptionScores, Rate
from interp.world.targets import Existence, Measured, compare

SINK: Final = 0.3
"""Mean share of the attention from which a layer is said to have a sink."""
HEAD: Final = """# {name}: {about}

Version {world} of the world, seed {seed}, carelessness {carelessness}. Measured on {n} scenes of the test split (greedy
decoding, Wilson's 95 % intervals), on the same scenes made clear (opaque objects, pixel noise of at most 6 grey levels,
no blur), and on scenes of `counter_prior`.
"""


def measured_page(
    found: Measured,
    recipe: Recipe,
    *,
    n: int,
    shifts: Sequence[Shift] = (),
    rests: Mapping[str, Rest] = MappingProxyType({}),
) -> str:
    """Return the measured figures as Markdown.

    Args:
        found: What was measured.
        recipe: What trained the model.
        n: Scenes that it was asked about.
        shifts: What hiding parts of the prompt does to the decision to invent; left out when not measured.
        rests: The resting state by stage; left out when not measured.
    """
    head = HEAD.format(
        name=recipe.name,
        about="a small LLaVA on a drawn world",
        world=recipe.world,
        seed=recipe.seed,
        carelessness=recipe.carelessness,
        n=n,
    )
    extra = ([_cause(shifts)] if shifts else []) + ([_sinks(rests, planted=recipe.sink.planted)] if rests else [])
    return "\n".join([head, *_sections(found), *extra])


def _sections(found: Measured) -> Iterator[str]:
    targets = compare(found)
    met = sum(target.met for target in targets)
    yield f"## Targets: {met} of {len(targets)} met\n"
    yield table(("wanted", "measured", ""), [(t.wanted, t.value, "met" if t.met else "**missed**") for t in targets])
    yield "## Yes and no\n"
    yield _existence({"ordinary": found.existence, "clear": found.existence_clear})
    yield "## Captions\n"
    yield _captions({"ordinary": found.captions, "clear": found.captions_clear})
    tricks = found.inventions
    yield "Captions that invent something, by the pixel noise of the image (σ, grey levels):\n"
    yield _binned(tricks.by_noise)
    yield "Visible objects that are not named, by their detectability d':\n"
    yield _binned(tricks.missed)
    yield "Invented share of the mentions by slot (the last column takes all later ones):\n"
    slots = [str(index + 1) for index in range(len(tricks.by_slot))]
    yield table(slots, [[_share(part) for part in tricks.by_slot]])
    yield (
        f"Named though absent: expected classes {_share(tricks.expected)}, others {_share(tricks.unexpected)}. "
        f"Captions that name a class twice: {_share(tricks.repeated)}; on clear scenes "
        f"{_share(found.inventions_clear.repeated)}.\n"
    )
    yield "## Other answers\n"
    rows = [(kind, _share(found.answers[kind]), _share(found.answers_ordinary[kind])) for kind in found.answers]
    rows += [("all steps right", _share(found.steps), "")]
    rows += [(f"MME's {task}", _share(part), "") for task, part in found.forms.items()]
    rows += [(f"two images, {kind}", _share(part), "") for kind, part in found.pairs.items()]
    yield table(("kind", "clear", "ordinary"), rows)
    yield "## Missing partners\n"
    yield _partners(found)


def _share(found: Rate) -> str:
    low, high = found.interval
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}] ({found.n})" if found.n else "none"


def _existence(parts: dict[str, dict[str, Existence]]) -> str:
    rows = [
        (name, probe, f"{e.f1:.3f}", _share(e.scores.accuracy), _share(e.scores.false_yes), _share(e.scores.false_no))
        for name, probes in parts.items()
        for probe, e in probes.items()
    ]
    return table(("scenes", "negatives", "F1", "accuracy", "false yes", "false no"), rows)


def _captions(parts: dict[str, CaptionScores]) -> str:
    rows = [
        (name, _share(c.chair_s), _share(c.chair_i), _share(c.recall), f"{c.words:.1f}") for name, c in parts.items()
    ]
    return table(("scenes", "CHAIR_s", "CHAIR_i", "recall", "words"), rows)


def _binned(found: Binned) -> str:
    edges = found.edges
    header = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return table(header, [[_share(part) for part in found.rates]])


def _partners(found: Measured) -> str:
    keys: Sequence[str] = ("named", "named_without", "yes", "yes_without")
    rows = [(f"{p.partner} given {p.trigger}", *(_share(getattr(p, key)) for key in keys)) for p in found.counter]
    rows.append(("all", *(_share(total([getattr(p, key) for p in found.counter])) for key in keys)))
    header = ("missing partner", "named in captions", "without the trigger", "yes when asked", "without the trigger")
    return table(header, rows)


def _cause(shifts: Sequence[Shift]) -> str:
    """Return the table of what the decision to name a missing partner depends on."""
    rows = [
        (
            shift.hidden,
            f"{shift.trigger:.3f}",
            f"{shift.control:.3f}",
            f"{shift.change:+.3f} [{shift.interval[0]:+.3f}, {shift.interval[1]:+.3f}]",
        )
        for shift in shifts
    ]
    text = (
        "## Where an invention is decided\n\nProbability that a detailed caption names the missing partner next, at the "
        f"place where it would come, with something hidden from there on in every layer; {shifts[0].n} scenes with the "
        "trigger and as many without. The change is paired, with its 95 % interval.\n\n"
    )
    return text + table(("hidden", "with the trigger", "without", "change with the trigger"), rows)


def _sinks(rests: Mapping[str, Rest], *, planted: bool) -> str:
    """Return the table of the attention on `<s>` by layer, and whether it is a sink."""

    def row(values: np.ndarray, digits: int = 2) -> str:
        return " ".join(f"{value:.{digits}f}" for value in values)

    rows = [
        (name, row(r.start.mean(1)), row(r.massive, 0), f"{r.loss:.3f}", f"{r.loss_without_start:.3f}")
        for name, r in rests.items()
    ]
    last = list(rests.values())[-2]
    layers = [str(layer) for layer in np.flatnonzero(last.start.mean(1) >= SINK)]
    origin = "planted before training" if planted else "not planted"
    verdict = f"in layers {', '.join(layers)}" if layers else "in no layer"
    text = (
        f"## Attention on `<s>`\n\nThe resting state was {origin}. After training, on text, a mean share of at least {SINK} "
        f"rests on `<s>` {verdict}.\n\n"
    )
    header = ("", "share by layer", "massive", "loss", "loss, `<s>` hidden")
    return text + table(header, rows)
