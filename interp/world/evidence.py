"""Errors against evidence: what captions miss and invent, by how visible things are and how noisy the image is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from interp.world.objects import CLASSES, VISIBLE, expectation
from interp.world.scene import Scene
from interp.world.scoring import Rate, rate
from interp.world.text import mentions

NOISE_EDGES: Final = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
"""Edges of the bins of the pixel noise, in grey levels."""
EVIDENCE_EDGES: Final = (0.0, 3.0, 6.0, 12.0, 24.0, 48.0, float("inf"))
"""Edges of the bins of an object's detectability d'."""
EXPECTED: Final = 0.3
"""An absent class is expected in a scene from this expectation on."""
SLOTS: Final = 8


@final
@dataclass(frozen=True)
class Binned:
    """A rate per bin.

    Attributes:
        edges: Edges of the bins, one more than bins.
        rates: One per bin.
    """

    edges: tuple[float, ...]
    rates: tuple[Rate, ...]


@final
@dataclass(frozen=True)
class Inventions:
    """What captions invent, miss and repeat.

    Attributes:
        by_noise: Captions that invent something, by the noise of the image.
        missed: Visible objects whose class is not named, by their evidence.
        by_slot: Invented share of the first, second, ... mention; the last entry takes all later ones.
        expected: Classes that are absent and expected and are named, over all such.
        unexpected: Classes that are absent and not expected and are named, over all such.
        repeated: Captions that name a class twice.
        longer: Mean words of the captions.
    """

    by_noise: Binned
    missed: Binned
    by_slot: tuple[Rate, ...]
    expected: Rate
    unexpected: Rate
    repeated: Rate
    longer: float

    @property
    def ratio(self) -> float:
        """How many times likelier an expected class is invented than another; infinite when no other ever is."""
        return self.expected.value / self.unexpected.value if self.unexpected.hits else float("inf")


def binned(values: Sequence[float], outcomes: Sequence[bool], edges: Sequence[float]) -> Binned:
    """Return the share of true outcomes among the values of every half-open bin; the last bin is closed."""
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    flags = np.asarray(outcomes, bool)
    return Binned(tuple(edges), tuple(rate(flags[at == index].tolist()) for index in range(len(edges) - 1)))


def measure_inventions(captions: Sequence[str], about: Sequence[Scene]) -> Inventions:
    """Return what captions, one per scene, invent, miss and repeat."""
    named = [[mention.name for mention in mentions(caption)] for caption in captions]
    wrong = [[name not in scene.present for name in said] for said, scene in zip(named, about, strict=True)]
    slots: list[list[bool]] = [[] for _ in range(SLOTS)]
    for flags in wrong:
        for index, flag in enumerate(flags):
            slots[min(index, SLOTS - 1)].append(flag)
    chances: dict[bool, list[bool]] = {False: [], True: []}
    for said, scene in zip(named, about, strict=True):
        weights = expectation(scene.place, scene.visible)
        for name, weight in zip(CLASSES, weights, strict=True):
            if name not in scene.names:
                chances[bool(weight >= EXPECTED)].append(name in said)
    seen = [
        (found, thing.name not in said)
        for said, scene in zip(named, about, strict=True)
        for thing, found in zip(scene.objects, scene.evidence, strict=True)
        if thing.visible >= VISIBLE
    ]
    return Inventions(
        by_noise=binned([scene.sigma for scene in about], [any(flags) for flags in wrong], NOISE_EDGES),
        missed=binned([value for value, _ in seen], [flag for _, flag in seen], EVIDENCE_EDGES),
        by_slot=tuple(rate(flags) for flags in slots),
        expected=rate(chances[True]),
        unexpected=rate(chances[False]),
        repeated=rate(len(said) > len(set(said)) for said in named),
        longer=float(np.mean([len(caption.split()) for caption in captions])),
    )
