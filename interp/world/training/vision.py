"""First stage: the vision tower alone learns what is where, in place of CLIP's pretraining."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionModel

from interp.world.batches import normalise, patch_labels, scene_labels, train_scenes
from interp.world.denormals import flush_denormals
from interp.world.objects import CLASSES, COLOURS, IMAGE_SIZE, PLACES
from interp.world.processor import PATCH_SIZE, build_tokenizer
from interp.world.scene import Scene, scenes
from interp.world.training.config import Recipe
from interp.world.training.network import build_network
from interp.world.training.state import Learner, load_tensors, optimise

SIDE = IMAGE_SIZE // PATCH_SIZE
LATER = 5 * 10**6
"""Scenes of the placing stage start here."""

logger = logging.getLogger(__name__)


class SeeingTower(nn.Module):
    """The tower with three linear readers: class and colour per patch, classes and place from the class token."""

    def __init__(self, tower: CLIPVisionModel) -> None:
        """Attach the readers."""
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.classes = nn.Linear(width, 1 + len(CLASSES))
        self.colours = nn.Linear(width, 1 + len(COLOURS))
        self.scene = nn.Linear(width, len(CLASSES) + len(PLACES))

    def forward(
        self, pixels: Float[Tensor, "sample channel row col"]
    ) -> tuple[
        Float[Tensor, "sample patch class_"], Float[Tensor, "sample patch colour"], Float[Tensor, "sample label"]
    ]:
        """Return the logits of the three readers, from the states that the projector will read."""
        seen = self.tower(pixel_values=pixels)
        patches = seen.last_hidden_state[:, 1:]
        return self.classes(patches), self.colours(patches), self.scene(seen.pooler_output)


class PlacingTower(nn.Module):
    """A trained tower with two readers more: the row and the column of every patch."""

    def __init__(self, seeing: SeeingTower) -> None:
        """Attach the readers."""
        super().__init__()
        width = seeing.tower.config.hidden_size
        self.seeing = seeing
        self.rows, self.cols = nn.Linear(width, SIDE), nn.Linear(width, SIDE)

    def forward(
        self, pixels: Float[Tensor, "sample channel row col"]
    ) -> tuple[
        Float[Tensor, "sample patch class_"],
        Float[Tensor, "sample patch colour"],
        Float[Tensor, "sample label"],
        Float[Tensor, "sample patch side"],
        Float[Tensor, "sample patch side"],
    ]:
        """Return the logits of all five readers."""
        seen = self.seeing.tower(pixel_values=pixels)
        patches = seen.last_hidden_state[:, 1:]
        what = self.seeing.classes(patches), self.seeing.colours(patches), self.seeing.scene(seen.pooler_output)
        return *what, self.rows(patches), self.cols(patches)


def labels(batch: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return class and colour per patch, and classes and place per scene."""
    patches = torch.from_numpy(np.stack([patch_labels(scene) for scene in batch]))
    return patches[..., 0], patches[..., 1], torch.from_numpy(np.stack([scene_labels(s) for s in batch]))


def seeing_loss(predicted: Sequence[Tensor], batch: list[Scene]) -> Float[Tensor, ""]:
    """Return the summed losses of the readers for class, colour and scene."""
    classes, colours, whole = labels(batch)
    return (
        F.cross_entropy(predicted[0].float().flatten(0, 1), classes.flatten())
        + F.cross_entropy(predicted[1].float().flatten(0, 1), colours.flatten())
        + F.binary_cross_entropy_with_logits(predicted[2].float(), whole)
    )


def new_tower(recipe: Recipe) -> SeeingTower:
    """Return the untrained tower with its readers."""
    network = build_network(build_tokenizer(), recipe.network, recipe.sink, seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        return SeeingTower(network.model.vision_tower)


@flush_denormals()
def train_vision(recipe: Recipe, out: Path) -> None:
    """Train the tower, or go on where a killed run stopped; writes `vision.safetensors`."""
    torch.set_num_threads(1)
    tower, config = new_tower(recipe), recipe.vision
    run = torch.compile(tower, dynamic=False) if recipe.compiled else tower

    def loss(step: int) -> Float[Tensor, ""]:
        batch = train_scenes(step, range(config.batch), config.batch, recipe.seed)
        pixels = normalise(np.stack([scene.pixels for scene in batch]))
        with torch.autocast("cpu", torch.bfloat16):
            predicted = run(pixels)
        return seeing_loss(predicted, batch)

    rates = dict.fromkeys((name for name, _ in tower.named_parameters()), 1.0)
    optimise(Learner(tower, rates, loss, lambda _: None), config, out / "vision.safetensors", label="vision")
    logger.info("vision %s", patch_accuracy(tower))


@flush_denormals()
def train_placing(recipe: Recipe, out: Path) -> None:
    """Teach the trained tower to keep where its patches are; writes `placing.safetensors`."""
    torch.set_num_threads(1)
    config = recipe.placing
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 2)
        tower = PlacingTower(load_tower(out / "vision.safetensors", recipe))
    run = torch.compile(tower, dynamic=False) if recipe.compiled else tower
    index = torch.arange(SIDE * SIDE).repeat(config.batch)

    def loss(step: int) -> Float[Tensor, ""]:
        batch = train_scenes(step + LATER // config.batch, range(config.batch), config.batch, recipe.seed)
        pixels = normalise(np.stack([scene.pixels for scene in batch]))
        with torch.autocast("cpu", torch.bfloat16):
            *what, rows, cols = run(pixels)
        return (
            seeing_loss(what, batch)
            + F.cross_entropy(rows.float().flatten(0, 1), index // SIDE)
            + F.cross_entropy(cols.float().flatten(0, 1), index % SIDE)
        )

    rates = dict.fromkeys((name for name, _ in tower.named_parameters()), 1.0)
    optimise(Learner(tower, rates, loss, lambda _: None), config, out / "placing.safetensors", label="placing")
    logger.info("placing %s", patch_accuracy(tower.seeing))


def load_placed(path: Path, recipe: Recipe) -> SeeingTower:
    """Return the tower of a checkpoint of the placing stage."""
    tower = PlacingTower(new_tower(recipe))
    tensors, _ = load_tensors(path)
    tower.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    return tower.seeing


def load_tower(path: Path, recipe: Recipe) -> SeeingTower:
    """Return the tower of a checkpoint of this stage."""
    tower = new_tower(recipe)
    tensors, _ = load_tensors(path)
    tower.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    return tower


@torch.no_grad()
def patch_accuracy(tower: SeeingTower, n: int = 256) -> dict[str, float]:
    """Return the share of held-out object patches whose class, and whose colour, the tower gets right."""
    batch = scenes("val", n)
    classes, colours, whole = labels(batch)
    predicted = tower(normalise(np.stack([scene.pixels for scene in batch])))
    there = classes > 0
    return {
        "class": (predicted[0].argmax(-1) == classes)[there].float().mean().item(),
        "colour": (predicted[1].argmax(-1) == colours)[there].float().mean().item(),
        "scene": ((predicted[2] > 0) == (whole > 0)).float().mean().item(),
    }
