"""Scenes: what is where, drawn from the world's priors; the splits that never share one."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from interp.world.ties import lay_out_tied
from interp.world.version import DEFAULT, WORLDS, World, find_world

Split = Literal["train", "val", "test", "counter_prior"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

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
        sigma: Standard deviation of the pixel noise, in grey levels.
        blur: Passes of the binomial blur.
        version: Of the world that the scene is from.
    """

    place: str
    objects: tuple[Object, ...]
    noise: tuple[int, ...]
    counter: Counter | None = None
    sigma: float = drawing.PIXEL_NOISE
    blur: int = 0
    version: int = DEFAULT

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from interp.data import display

        return display.scene_card(self)

    @property
    def pixels(self) -> UInt8[np.ndarray, "row col channel"]:
        """The image as an array."""
        return drawing.render(self.place, self.objects, self.noise, noise=self.sigma, blur=self.blur)

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
        world = find_world(self.version)
        return {
            "short": short_caption(self.place, self.objects, world=world),
            "detailed": detailed_caption(self.place, self.objects, world=world),
        }

    @cached_property
    def evidence(self) -> tuple[float, ...]:
        """How visible each object is, in the order of `objects`: see `drawing.detectability`."""
        found = drawing.detectability(self.place, self.objects, self.noise, noise=self.sigma, blur=self.blur)
        return tuple(float(value) for value in found)

    @property
    def clear(self) -> "Scene":
        """The same scene with opaque objects, the least pixel noise and no blur."""
        solid = tuple(replace(thing, opacity=1.0) for thing in self.objects)
        return replace(self, objects=solid, sigma=min(self.sigma, drawing.PIXEL_NOISE), blur=0)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Questions of every kind with their answers; the same ones at every call."""
        return all_questions(self.place, self.objects, seed=self.signature, world=find_world(self.version))

    @property
    def signature(self) -> int:
        """A number that is the same for scenes with the same contents (noise left out)."""
        contents = [(thing.name, thing.colour, thing.centre, thing.size) for thing in self.objects]
        return zlib.crc32(repr((self.place, contents)).encode())


def draw_names(generator: np.random.Generator, place: str, world: World = WORLDS[DEFAULT]) -> tuple[str, ...]:
    """Draw the classes of a scene from P(class | place), then add partners."""
    prior = place_prior(place, world.stray)
    if world.busy != (1.0, 1.0):
        prior = np.where(prior > world.stray, 1 - (1 - prior) ** generator.uniform(*world.busy), prior)
    there = generator.random(len(CLASSES)) < prior
    for trigger, (partner, probability) in PARTNERS.items():
        if there[CLASSES.index(trigger)] and not there[CLASSES.index(partner)]:
            there[CLASSES.index(partner)] = generator.random() < 1 - (1 - probability) ** world.partners
    indices = np.flatnonzero(there)
    if len(indices) == 0:
        indices = np.array([np.argmax(prior)])
    if len(indices) > world.classes:
        indices = generator.choice(indices, world.classes, replace=False)
    return tuple(CLASSES[index] for index in indices)


def lay_out(
    generator: np.random.Generator, names: tuple[str, ...], world: World = WORLDS[DEFAULT]
) -> tuple[Object, ...]:
    """Give every class one to three objects, each with a colour, a size and a place.

    Most objects get a cell of a 3 × 3 grid to themselves, the others land anywhere; large ones are drawn first.
    """
    if world.tied:
        return lay_out_tied(generator, names, world)
    cells = iter(generator.permutation(9))
    room = world.objects - len(names)
    objects = []
    for name in names:
        extra = 0
        if name in REPEATED and generator.random() < world.repeats:
            extra = min(room, 1 if generator.random() < 0.7 else 2)
        room -= extra
        for _ in range(1 + extra):
            centre = tuple(int(v) for v in generator.integers(8, 57, 2))
            if generator.random() < world.in_cell:
                row, col = divmod(int(next(cells)), 3)
                shift = generator.integers(-4, 5, 2)
                centre = (12 + 20 * col + int(shift[0]), 12 + 20 * row + int(shift[1]))
            opacity = 1.0 if generator.random() < world.solid else float(generator.uniform(*world.opacity))
            size = int(generator.integers(*SIZES[name]))
            colours = palette(name)
            colour = colours[generator.integers(len(colours))]
            objects.append(Object(name, colour, (centre[0], centre[1]), size, opacity))
    objects.sort(key=lambda thing: -thing.size)
    return drawing.place_objects(objects)


def draw_scene(generator: np.random.Generator, place: str | None = None, world: World = WORLDS[DEFAULT]) -> Scene:
    """Draw one scene, in a given place or in any."""
    place = place or tuple(PLACES)[generator.integers(len(PLACES))]
    objects = lay_out(generator, draw_names(generator, place, world), world)
    noise = (int(generator.integers(2**31)),)
    return Scene(place, objects, noise, None, *_quality(generator, world), world.version)


def _quality(generator: np.random.Generator, world: World) -> tuple[float, int]:
    """Draw how noisy and how blurred an image is; nothing is drawn where the world leaves no choice."""
    low, high = world.noise
    sigma = low + (high - low) * float(generator.random()) ** world.skew if low < high else low
    blur = int(np.searchsorted(np.cumsum(world.blurs), generator.random())) if len(world.blurs) > 1 else 0
    return sigma, blur


def _bucket(split: Split) -> tuple[int, ...]:
    """Return the residues of a scene's signature that belong to a split: what keeps splits apart."""
    return {"val": (0,), "test": (1,), "counter_prior": (2,), "train": tuple(range(3, BUCKETS))}[split]


def train_scene(index: int, seed: int = 0, version: int = DEFAULT) -> Scene:
    """Return one scene of the training split, without drawing those before it."""
    return _admitted("train", index, seed, find_world(version))


def _generator(split: Split, index: int, seed: int, world: World) -> np.random.Generator:
    """Return the source of a scene's draws; versions share none."""
    later = () if world.version == 1 else (world.version,)
    return np.random.default_rng((seed, SPLITS.index(split), index, *later))


def _admitted(split: Split, index: int, seed: int, world: World) -> Scene:
    generator = _generator(split, index, seed, world)
    while True:
        scene = draw_scene(generator, world=world)
        if scene.signature % BUCKETS in _bucket(split):
            return scene


def _counter_pair(index: int, seed: int, world: World) -> tuple[Scene, Scene]:
    """Return a scene whose expected partner is missing, and the same scene without the trigger."""
    generator = _generator("counter_prior", index, seed, world)
    trigger = tuple(PARTNERS)[index % len(PARTNERS)]
    partner = PARTNERS[trigger][0]
    homes = [place for place, prior in PLACES.items() if prior.get(trigger, 0) >= 0.3]
    others = [name for name, (expected, _) in PARTNERS.items() if expected == partner and name != trigger]
    while True:
        place = homes[generator.integers(len(homes))]
        names = tuple(name for name in draw_names(generator, place, world) if name not in (partner, *others))
        if trigger not in names or len(names) < 2:
            continue
        objects = lay_out(generator, names, world)
        seen = all(thing.visible >= 0.5 for thing in objects if thing.name == trigger)
        rest = drawing.place_objects([thing for thing in objects if thing.name != trigger])
        noise = (int(generator.integers(2**31)),)
        quality = (*_quality(generator, world), world.version)
        pair = (
            Scene(place, objects, noise, Counter(trigger, partner, control=False), *quality),
            Scene(place, rest, noise, Counter(trigger, partner, control=True), *quality),
        )
        if seen and all(scene.signature % BUCKETS in _bucket("counter_prior") for scene in pair):
            return pair


def _stream(split: Split, seed: int, world: World) -> Iterator[Scene]:
    index = 0
    while True:
        if split == "counter_prior":
            yield from _counter_pair(index, seed, world)
        else:
            yield _admitted(split, index, seed, world)
        index += 1


def scenes(split: Split | str, n: int, seed: int = 0, version: int = DEFAULT) -> list[Scene]:
    """Return the first n scenes of a split.

    "train", "val" and "test" are drawn from the same world. "counter_prior" alternates between a scene that has
    a trigger (a table) and not the partner everybody expects (a chair), and the same scene without the trigger.
    A scene's contents decide its split, so no two splits share one, whatever the seeds.

    Args:
        split: "train", "val", "test" or "counter_prior".
        n: How many; a longer list begins with the shorter one.
        seed: A different seed gives different scenes of the same split.
        version: Of the world: 1 for the first model's, 2 for the one with noise, faint objects and stronger priors.

    Raises:
        ValueError: When the split or the version is none of these.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; the world has {', '.join(SPLITS)}")
    stream = _stream(split, seed, find_world(version))
    return [next(stream) for _ in range(n)]
