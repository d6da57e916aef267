"""The versions of the world: what each draws and how each describes it.

Version 1 is the world of the first shipped model. Version 2 makes errors natural: pixel noise, blur, faint, small and
crowded objects against stronger priors, and captions that name what is there however hard it is to see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

VERSION_KEY: Final = "world_version"
"""Where the configuration of a model says in which version it was trained."""


@final
@dataclass(frozen=True)
class World:
    """The settings of one version.

    Attributes:
        version: Its number.
        noise: Range of the pixel noise's standard deviation per scene, in grey levels of 0 to 255.
        skew: Exponent on the uniform draw from that range: above 1 makes clear images more frequent.
        blurs: Share of the scenes that get 0, 1, 2, ... passes of a 3 × 3 binomial blur.
        solid: Share of the objects that are opaque.
        opacity: Range of the opacity of the others.
        scale: Range of the factor on an object's usual size.
        classes: Most classes in a scene.
        objects: Most objects in a scene.
        in_cell: Share of the objects that get a cell of a 3 × 3 grid to themselves, while there are free cells.
        tied: Whether a class has a usual colour and a usual height in the image.
        partners: Exponent on (1 - P(partner | trigger)): above 1 makes partners likelier.
        busy: Range of an exponent on (1 - P(class | place)), uniform per scene: above 1 makes what belongs there likelier.
        repeats: P(a class that can be there several times is).
        stray: P(class | place) for every class that does not belong there.
        ranked: Whether captions name classes in a fixed order, otherwise the most salient class first.
        details: Classes per detailed caption that get colour and position; the rest is only named.
        order_gap: Smallest distance of neighbouring centres, in pixels, for which left to right is asked.
        order_most: Most objects for which left to right is asked.
        careless_text: P(a detailed caption without an image names a missing partner at its end | one is missing).
        positive: Share of the existence questions in training whose answer is yes.
    """

    version: int
    noise: tuple[float, float]
    skew: float
    blurs: tuple[float, ...]
    solid: float
    opacity: tuple[float, float]
    scale: tuple[float, float]
    classes: int
    objects: int
    in_cell: float
    tied: bool
    partners: float
    busy: tuple[float, float]
    repeats: float
    stray: float
    ranked: bool
    details: int
    order_gap: int
    order_most: int
    careless_text: float
    positive: float


WORLDS: Final[Mapping[int, World]] = MappingProxyType(
    {
        1: World(
            version=1,
            noise=(6.0, 6.0),
            skew=1.0,
            blurs=(1.0,),
            solid=0.88,
            opacity=(0.25, 0.5),
            scale=(1.0, 1.0),
            classes=6,
            objects=8,
            in_cell=0.92,
            tied=False,
            partners=1.0,
            busy=(1.0, 1.0),
            repeats=0.3,
            stray=0.012,
            ranked=False,
            details=4,
            order_gap=1,
            order_most=8,
            careless_text=0.3,
            positive=0.5,
        ),
        2: World(
            version=2,
            noise=(0.0, 100.0),
            skew=1.5,
            blurs=(0.7, 0.15, 0.1, 0.05),
            solid=0.4,
            opacity=(0.15, 1.0),
            scale=(0.5, 1.0),
            classes=8,
            objects=11,
            in_cell=0.85,
            tied=True,
            partners=1.5,
            busy=(1.0, 2.5),
            repeats=0.35,
            stray=0.01,
            ranked=True,
            details=6,
            order_gap=5,
            order_most=6,
            careless_text=0.0,
            positive=0.6,
        ),
    }
)
"""All versions by number."""

DEFAULT: Final = 1
"""The version that the shipped model was trained in."""


def find_world(version: int) -> World:
    """Return the settings of a version.

    Raises:
        ValueError: When there is no such version.
    """
    if version not in WORLDS:
        raise ValueError(f"no version {version!r} of the world; there are {', '.join(map(str, WORLDS))}")
    return WORLDS[version]


def world_version(config: Any) -> int:
    """Return the version of the world that a model was trained in; 1 for models that do not say."""
    return int(getattr(config, VERSION_KEY, 1))


def check_version(config: Any, wanted: int) -> None:
    """Refuse a model of another version of the world.

    Raises:
        ValueError: When the model was trained in another version.
    """
    found = world_version(config)
    if found != wanted:
        raise ValueError(
            f"the model was trained in version {found} of the world and is asked about version {wanted}; "
            f"give scenes of its own version, or a model of version {wanted}"
        )
