"""What a model of the ladder is trained by: one frozen recipe, read from a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, final

from interp.world.training.config import NetworkConfig, SinkConfig
from interp.world.version import find_world


@final
@dataclass(frozen=True)
class Schedule:
    """How long and how fast one stage learns: warm-up, a stable phase, and a linear anneal at the end.

    The stable phase does not depend on the length, so a run can be lengthened: it goes on from the end of its stable
    phase. It ends early when the stage's score reaches the target.

    Attributes:
        steps: Optimiser steps, warm-up and anneal included.
        batch: Images or rows per step.
        rate: Learning rate of the stable phase.
        warmup: Steps of linear warm-up.
        anneal: Steps of the linear anneal, the last ones.
        floor: Learning rate at the end of the anneal, as a share of the stable rate.
        decay: Weight decay of matrices.
        beta: Second-moment decay of Adam.
        muon: Whether hidden matrices are updated by Muon, the rest by Adam; otherwise Adam updates all.
        target: Score on validation scenes from which the stable phase ends; none by default.
        check_every: Steps between measurements of the score.
        save_every: Steps between checkpoints.
        log_every: Steps between lines of the log.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    anneal: int = 0
    floor: float = 0.02
    decay: float = 0.02
    beta: float = 0.97
    muon: bool = False
    target: float | None = None
    check_every: int = 500
    save_every: int = 100
    log_every: int = 25

    def __post_init__(self) -> None:
        """Refuse an anneal that is longer than the stage."""
        if not 0 <= self.anneal <= self.steps:
            raise ValueError(f"anneal = {self.anneal} must be between 0 and steps = {self.steps}")


@final
@dataclass(frozen=True)
class RowSettings:
    """What the rows of text and of images look like.

    Attributes:
        text: Tokens of a row of text in the language stage.
        answers: Tokens behind the image prefix in the joint stages.
        pairs: Rows per batch that show two images.
        chained: P(a question continues the turn before it).
        blind: Share of rows without an image in the joint stages.
        other_systems: Share of rows with another system prompt than the usual one.
        short_answers: Loss weight of answers to questions, a caption's being 1.
        captioned: Share of the rows that begin with a caption; the others hold questions only.
        detailed: Share of the captions that are detailed.
        copying: Share of the documents that are copied back, in the language stage.
    """

    text: int = 160
    answers: int = 110
    pairs: int = 4
    chained: float = 0.15
    blind: float = 0.06
    other_systems: float = 0.1
    short_answers: float = 2.0
    captioned: float = 0.6
    detailed: float = 0.65
    copying: float = 0.15


@final
@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: The model's name, as `interp.load` takes it.
        tower: First stage: the vision tower alone, with readers for class, colour, row and column.
        language: Second stage, independent of the first: the decoder alone, on text.
        projector: Third stage: the projector alone.
        joint: Fourth stage: projector and decoder, the tower frozen.
        world: Version of the world.
        seed: Of the initial weights and of every batch.
        carelessness: P(a detailed training caption names a missing partner | one is missing).
        projector_rate: Learning rate of the projector over that of the decoder in the joint stage.
        processes: Single-threaded processes that share the rows of the joint stages; another number leads to slightly
            other weights.
        compiled: Whether the forward and backward passes go through torch.compile.
        network: Sizes.
        sink: The dormant start.
        rows: Rows.
    """

    name: str
    tower: Schedule
    language: Schedule
    projector: Schedule
    joint: Schedule
    world: int = 2
    seed: int = 0
    carelessness: float = 0.08
    projector_rate: float = 2.0
    processes: int = 2
    compiled: bool = True
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sink: SinkConfig = field(default_factory=SinkConfig)
    rows: RowSettings = field(default_factory=RowSettings)

    def __post_init__(self) -> None:
        """Refuse a version of the world that does not exist, and rows that the processes cannot share evenly."""
        find_world(self.world)
        for name in ("projector", "joint"):
            if getattr(self, name).batch % self.processes or self.rows.pairs % self.processes:
                raise ValueError(
                    f"{self.processes} processes cannot share a batch of {getattr(self, name).batch} rows with "
                    f"{self.rows.pairs} of two images; choose multiples of the processes"
                )


SECTIONS: Final[Mapping[str, type]] = {
    "tower": Schedule,
    "language": Schedule,
    "projector": Schedule,
    "joint": Schedule,
    "network": NetworkConfig,
    "sink": SinkConfig,
    "rows": RowSettings,
}


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package, as `interp.load` takes the models'."""
    found = sorted(
        file.name.removesuffix(".toml")
        for file in files(f"{__package__}.recipes").iterdir()
        if file.name.endswith(".toml")
    )
    return tuple(name.replace("-", "/", 1) for name in found)


def read_recipe(source: str | Path) -> Recipe:
    """Return the recipe of a model that comes with the package, or the one in a TOML file.

    A file may begin with `base = "scenes"`: it then only says what differs from that model's recipe.

    Args:
        source: A model's name, such as "scenes/seed-1", or the path of a file.

    Raises:
        ValueError: When there is no such recipe, when it names a setting that does not exist, or lacks one that must
            be given.
    """
    values = _values(source)
    _known(values, Recipe, f"recipe {source}")
    for name, section in SECTIONS.items():
        _known(values.get(name, {}), section, f"recipe {source}, [{name}]")
    parts = {name: section(**values[name]) for name, section in SECTIONS.items() if name in values}
    return Recipe(**(values | parts))


def _values(source: str | Path) -> dict[str, Any]:
    """Return the settings of a recipe, those of its base included."""
    if isinstance(source, str) and source in recipe_names():
        text = files(f"{__package__}.recipes").joinpath(f"{source.replace('/', '-')}.toml").read_text()
    elif Path(source).is_file():
        text = Path(source).read_text()
    else:
        raise ValueError(f"no recipe {str(source)!r}; give a TOML file or one of {', '.join(recipe_names())}")
    values = tomllib.loads(text)
    if "base" not in values:
        return values
    base = _values(values.pop("base"))
    merged = {name: base.get(name, {}) | value if name in SECTIONS else value for name, value in values.items()}
    return base | merged


def _known(values: Mapping[str, Any], kind: type, where: str) -> None:
    """Refuse settings that a part of the recipe does not have, and a part that lacks one it needs."""
    options = {setting.name: setting for setting in fields(kind)}
    unknown = [name for name in values if name not in options]
    if unknown:
        raise ValueError(f"{where} has no setting {', '.join(unknown)}; there are {', '.join(options)}")
    needed = [
        name
        for name, setting in options.items()
        if setting.default is MISSING and setting.default_factory is MISSING and name not in values
    ]
    if values and needed:
        raise ValueError(f"{where} must set {', '.join(needed)}")
