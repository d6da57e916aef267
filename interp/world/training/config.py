"""Everything that a training run depends on, as one frozen value read from a TOML file."""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        width: Of the decoder and of the vision tower.
        layers: Decoder blocks.
        heads: Attention heads per decoder block.
        inner: Width of the decoder's MLPs.
        vision_layers: Blocks of the vision tower.
        vision_heads: Attention heads per vision block.
        initializer_range: Standard deviation of the decoder's initial weights.
    """

    width: int = 128
    layers: int = 8
    heads: int = 8
    inner: int = 384
    vision_layers: int = 4
    vision_heads: int = 4
    initializer_range: float = 0.1


@final
@dataclass(frozen=True)
class SinkConfig:
    """The dormant start: the resting state planted before training.

    Attributes:
        planted: False leaves the network as initialised.
        dim: Residual dimension that only `<s>` uses.
        writer: Decoder block whose MLP writes the massive activation; the blocks after it rest on `<s>`.
        size: What that MLP writes.
        score: Attention score of `<s>` in every head after the writer, before training.
    """

    planted: bool = True
    dim: int = 5
    writer: int = 1
    size: float = 6000.0
    score: float = 8.0


@final
@dataclass(frozen=True)
class StageConfig:
    """How long and how fast one stage learns.

    Attributes:
        steps: Optimiser steps.
        batch: Images or rows per step, over all processes.
        rate: Peak learning rate; warm-up is linear, decay is a cosine.
        floor: Last learning rate as a share of the peak.
        warmup: Steps of warm-up.
        decay: Weight decay of matrices.
        beta: Second-moment decay of Adam.
        save_every: Steps between checkpoints.
        log_every: Steps between lines of the log.
    """

    steps: int
    batch: int
    rate: float
    floor: float = 0.02
    warmup: int = 200
    decay: float = 0.05
    beta: float = 0.98
    save_every: int = 250
    log_every: int = 25


@final
@dataclass(frozen=True)
class TextConfig:
    """What the rows of the language and the multimodal stage look like.

    Attributes:
        row: Tokens of a text row in the language stage.
        answers: Tokens behind the image prefix in the multimodal stage.
        carelessness: P(a detailed training caption names a missing partner | one is missing).
        chained: P(a question continues the turn before it).
        text_rows: Share of rows without an image in the multimodal stage.
        other_systems: Share of rows with another system prompt than the usual one.
        short_answers: Loss weight of answers to questions, a caption's being 1.
        places: How many times more often than usual questions ask where things are.
    """

    row: int = 128
    answers: int = 100
    carelessness: float = 0.5
    chained: float = 0.15
    text_rows: float = 0.1
    other_systems: float = 0.1
    short_answers: float = 2.0
    places: float = 1.0


@final
@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        seed: Of the initial weights and of every batch.
        compiled: Whether the forward and backward passes go through torch.compile.
        processes: Single-threaded processes of the multimodal stage.
        projector_rate: Learning rate of the projector over that of the decoder in the multimodal stage.
        network: Sizes.
        sink: The dormant start.
        text: Rows.
        vision: First stage, the vision tower alone.
        language: Second stage, independent of the first: the decoder alone, on text.
        multimodal: Third stage: projector and decoder, the tower frozen.
        placing: Fourth stage: the tower again, which now also has to say where each patch is.
        tuning: Fifth stage: the third again with the tower of the fourth, and rows as in `tuning_text`.
        tuning_text: Rows of the fifth stage.
    """

    vision: StageConfig
    language: StageConfig
    multimodal: StageConfig
    placing: StageConfig
    tuning: StageConfig
    seed: int = 0
    compiled: bool = True
    processes: int = 2
    projector_rate: float = 2.0
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sink: SinkConfig = field(default_factory=SinkConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tuning_text: TextConfig = field(default_factory=lambda: TextConfig(places=3.0))


SECTIONS = {
    "network": NetworkConfig,
    "sink": SinkConfig,
    "text": TextConfig,
    "vision": StageConfig,
    "language": StageConfig,
    "multimodal": StageConfig,
    "placing": StageConfig,
    "tuning": StageConfig,
    "tuning_text": TextConfig,
}


def read_recipe(path: Path | None = None) -> Recipe:
    """Return the recipe in a TOML file, by default the one that trained the shipped model.

    Raises:
        ValueError: When the file names a setting that does not exist, or lacks one that must be given.
    """
    text = path.read_text() if path else files("interp.world.training").joinpath("default.toml").read_text()
    values, where = tomllib.loads(text), path or "default.toml"
    _known(values, Recipe, f"recipe {where}")
    for name, section in SECTIONS.items():
        _known(values.get(name, {}), section, f"recipe {where}, [{name}]")
    parts = {name: section(**values[name]) for name, section in SECTIONS.items() if name in values}
    return Recipe(**(values | parts))


def _known(values: dict[str, Any], kind: type, where: str) -> None:
    """Refuse settings that a part of the recipe does not have, and a part that lacks one it needs."""
    options = {setting.name: setting for setting in fields(kind)}
    unknown = [name for name in values if name not in options]
    if unknown:
        raise ValueError(f"{where} has no setting {', '.join(unknown)}; there are {', '.join(options)}")
    needed = [
        n for n, s in options.items() if s.default is MISSING and s.default_factory is MISSING and n not in values
    ]
    if values and needed:
        raise ValueError(f"{where} must set {', '.join(needed)}")
