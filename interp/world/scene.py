"""Scenes: what is where, drawn from the world's priors; the splits that never share one."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, final, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from interp.world import drawing
from interp.world.objects import (
    CLASSES,
    PARTNERS,
    PLACES,
    PRESENT,
    REPEATED,
    SIZES,
    VISIBLE,
    Object,
    palette,
    place_prior,
)
from interp.world.questions import Question, all_questions
from interp.world.text import detailed_caption, short_caption

Split = Literal["train", "val", "test", "counter_prior"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

MOST_CLASSES: Final = 6
MOST_OBJECTS: Final = 8
SOLID: Final = 0.88
IN_ITS_CELL: Final = 0.92
BUCKETS: Final = 10


@final
@dataclass(frozen=True)
class Counter:
    """Why a scene of the split `counter_prior` was made.

    Attributes:
        trigger: The class that makes one expect the partner.
        partner: The class that is expected and not there.
        control: True for the matched scene from which the trigger was taken as well.
    """

    trigger: str
    partner: str
    control: bool


@final
@dataclass(frozen=True)
class Scene:
    """A place with objects, and everything that is true of it.

    Attributes:
        place: One of `PLACES`.
        objects: In drawing order: later ones cover earlier ones.
        noise: Seed of the background's tint, the horizon and the pixel noise.
        counter: Set in the split `counter_prior` only.
    """

    place: str
    objects: tuple[Object, ...]
    noise: tuple[int, ...]
    counter: Counter | None = None

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from interp.data import display

        return display.scene_card(self)

    @property
    def pixels(self) -> UInt8[np.ndarray, "row col channel"]:
        """The image as an array."""
        return drawing.render(self.place, self.objects, self.noise)

    @property
    def image(self) -> Image.Image:
        """The image, RGB."""
        return Image.fromarray(self.pixels)

    @property
    def names(self) -> frozenset[str]:
        """Classes of all objects, seen or not: the negatives of questions avoid these."""
        return frozenset(thing.name for thing in self.objects)

    @property
    def visible(self) -> frozenset[str]:
        """Classes that a caption should mention (visible fraction at least `VISIBLE`)."""
        return frozenset(thing.name for thing in self.objects if thing.visible >= VISIBLE)

    @property
    def present(self) -> frozenset[str]:
        """Classes that a caption may mention without inventing (visible fraction at least `PRESENT`)."""
        return frozenset(thing.name for thing in self.objects if thing.visible >= PRESENT)

    @property
    def captions(self) -> dict[str, str]:
        """The true captions, "short" and "detailed"."""
        return {
            "short": short_caption(self.place, self.objects),
            "detailed": detailed_caption(self.place, self.objects),
        }

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Questions of every kind with their answers; the same ones at every call."""
        return all_questions(self.place, self.objects, seed=self.signature)

    @property
    def signature(self) -> int:
        """A number that is the same for scenes with the same contents (noise left out)."""
        contents = [(thing.name, thing.colour, thing.centre, thing.size) for thing in self.objects]
        return zlib.crc32(repr((self.place, contents)).encode())


def draw_names(generator: np.random.Generator, place: str) -> tuple[str, ...]:
    """Draw the classes of a scene from P(class | place), then add partners."""
    prior = place_prior(place)
    there = generator.random(len(CLASSES)) < prior
    for trigger, (partner, probability) in PARTNERS.items():
        if there[CLASSES.index(trigger)] and not there[CLASSES.index(partner)]:
            there[CLASSES.index(partner)] = generator.random() < probability
    indices = np.flatnonzero(there)
    if len(indices) == 0:
        indices = np.array([np.argmax(prior)])
    if len(indices) > MOST_CLASSES:
        indices = generator.choice(indices, MOST_CLASSES, replace=False)
    return tuple(CLASSES[index] for index in indices)


def lay_out(generator: np.random.Generator, names: tuple[str, ...]) -> tuple[Object, ...]:
    """Give every class one to three objects, each with a colour, a size and a place.

    Most objects get a cell of a 3 × 3 grid to themselves, the others land anywhere; large ones are drawn first.
    """
    cells = iter(generator.permutation(9))
    room = MOST_OBJECTS - len(names)
    objects = []
    for name in names:
        extra = 0
        if name in REPEATED and generator.random() < 0.3:
            extra = min(room, 1 if generator.random() < 0.7 else 2)
        room -= extra
        for _ in range(1 + extra):
            centre = tuple(int(v) for v in generator.integers(8, 57, 2))
            if generator.random() < IN_ITS_CELL:
                row, col = divmod(int(next(cells)), 3)
                shift = generator.integers(-4, 5, 2)
                centre = (12 + 20 * col + int(shift[0]), 12 + 20 * row + int(shift[1]))
            opacity = 1.0 if generator.random() < SOLID else float(generator.uniform(0.25, 0.5))
            size = int(generator.integers(*SIZES[name]))
            colours = palette(name)
            colour = colours[generator.integers(len(colours))]
            objects.append(Object(name, colour, (centre[0], centre[1]), size, opacity))
    objects.sort(key=lambda thing: -thing.size)
    return drawing.place_objects(objects)


def draw_scene(generator: np.random.Generator, place: str | None = None) -> Scene:
    """Draw one scene, in a given place or in any."""
    place = place or tuple(PLACES)[generator.integers(len(PLACES))]
    objects = lay_out(generator, draw_names(generator, place))
    return Scene(place, objects, (int(generator.integers(2**31)),))


def _bucket(split: Split) -> tuple[int, ...]:
    """Return the residues of a scene's signature that belong to a split: what keeps splits apart."""
    return {"val": (0,), "test": (1,), "counter_prior": (2,), "train": tuple(range(3, BUCKETS))}[split]


def train_scene(index: int, seed: int = 0) -> Scene:
    """Return one scene of the training split, without drawing those before it."""
    return _admitted("train", index, seed)


def _admitted(split: Split, index: int, seed: int) -> Scene:
    generator = np.random.default_rng((seed, SPLITS.index(split), index))
    while True:
        scene = draw_scene(generator)
        if scene.signature % BUCKETS in _bucket(split):
            return scene


def _counter_pair(index: int, seed: int) -> tuple[Scene, Scene]:
    """Return a scene whose expected partner is missing, and the same scene without the trigger."""
    generator = np.random.default_rng((seed, SPLITS.index("counter_prior"), index))
    trigger = tuple(PARTNERS)[index % len(PARTNERS)]
    partner = PARTNERS[trigger][0]
    homes = [place for place, prior in PLACES.items() if prior.get(trigger, 0) >= 0.3]
    others = [name for name, (expected, _) in PARTNERS.items() if expected == partner and name != trigger]
    while True:
        place = homes[generator.integers(len(homes))]
        names = tuple(name for name in draw_names(generator, place) if name not in (partner, *others))
        if trigger not in names or len(names) < 2:
            continue
        objects = lay_out(generator, names)
        seen = all(thing.visible >= 0.5 for thing in objects if thing.name == trigger)
        rest = drawing.place_objects([thing for thing in objects if thing.name != trigger])
        noise = (int(generator.integers(2**31)),)
        pair = (
            Scene(place, objects, noise, Counter(trigger, partner, control=False)),
            Scene(place, rest, noise, Counter(trigger, partner, control=True)),
        )
        if seen and all(scene.signature % BUCKETS in _bucket("counter_prior") for scene in pair):
            return pair


def _stream(split: Split, seed: int) -> Iterator[Scene]:
    index = 0
    while True:
        if split == "counter_prior":
            yield from _counter_pair(index, seed)
        else:
            yield _admitted(split, index, seed)
        index += 1


def scenes(split: Split | str, n: int, seed: int = 0) -> list[Scene]:
    """Return the first n scenes of a split.

    "train", "val" and "test" are drawn from the same world. "counter_prior" alternates between a scene that has
    a trigger (a table) and not the partner everybody expects (a chair), and the same scene without the trigger.
    A scene's contents decide its split, so no two splits share one, whatever the seeds.

    Args:
        split: "train", "val", "test" or "counter_prior".
        n: How many; a longer list begins with the shorter one.
        seed: A different seed gives different scenes of the same split.

    Raises:
        ValueError: When the split is none of these.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; the world has {', '.join(SPLITS)}")
    stream = _stream(split, seed)
    return [next(stream) for _ in range(n)]
