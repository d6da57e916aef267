"""First stage: the vision tower alone learns what is where, in place of CLIP's pretraining."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionModel

from interp.world.batches import normalise, patch_labels, scene_labels
from interp.world.ladder.config import Recipe
from interp.world.ladder.loop import Learner, load_weights, optimise
from interp.world.objects import CLASSES, COLOURS, IMAGE_SIZE, PLACES
from interp.world.processor import PATCH_SIZE, build_tokenizer
from interp.world.scene import Scene, scenes, train_scene
from interp.world.training.network import build_network

SIDE = IMAGE_SIZE // PATCH_SIZE
CHECKED = 256
"""Validation scenes of the score."""


class ReadTower(nn.Module):
    """The tower with linear readers: class, colour, row and column per patch; classes and place from the class token."""

    def __init__(self, tower: CLIPVisionModel) -> None:
        """Attach the readers."""
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        sizes = {"classes": 1 + len(CLASSES), "colours": 1 + len(COLOURS), "rows": SIDE, "cols": SIDE}
        self.readers = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
        self.scene = nn.Linear(width, len(CLASSES) + len(PLACES))

    def forward(self, pixels: Float[Tensor, "sample channel row col"]) -> tuple[Tensor, ...]:
        """Return the logits of class, colour, row, column per patch, and of classes and place per image."""
        seen = self.tower(pixel_values=pixels)
        patches = seen.last_hidden_state[:, 1:]
        return *(reader(patches) for reader in self.readers.values()), self.scene(seen.pooler_output)


def patch_targets(batch: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return class, colour, row and column of every patch, images one after the other."""
    labels = torch.from_numpy(np.stack([patch_labels(scene) for scene in batch])).flatten(0, 1)
    index = torch.arange(SIDE * SIDE).repeat(len(batch))
    return labels[:, 0], labels[:, 1], index // SIDE, index % SIDE


def tower_loss(predicted: Sequence[Tensor], batch: Sequence[Scene]) -> Float[Tensor, ""]:
    """Return the summed losses of all readers."""
    whole = torch.from_numpy(np.stack([scene_labels(scene) for scene in batch]))
    patches = zip(predicted, patch_targets(batch), strict=False)
    parts = [F.cross_entropy(logits.float().flatten(0, 1), target) for logits, target in patches]
    return sum(parts, F.binary_cross_entropy_with_logits(predicted[-1].float(), whole))


def build_tower(recipe: Recipe) -> ReadTower:
    """Return the untrained tower with its readers."""
    network = build_network(build_tokenizer(), recipe.network, recipe.sink, seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        return ReadTower(network.model.vision_tower)


def load_tower(path: Path, recipe: Recipe) -> ReadTower:
    """Return the tower of a checkpoint of this stage."""
    tower = build_tower(recipe)
    load_weights(path, tower, {"world": str(recipe.world), "seed": str(recipe.seed)})
    return tower


@torch.no_grad()
def tower_score(tower: nn.Module, batch: Sequence[Scene], pixels: Tensor) -> dict[str, float]:
    """Return the share of object patches whose class, and whose colour, is read right; worst of row and column."""
    targets = patch_targets(batch)
    predicted = tower(pixels)
    there = targets[0] > 0
    right = [(p.flatten(0, 1).argmax(-1) == t).float() for p, t in zip(predicted, targets, strict=False)]
    return {
        "class": right[0][there].mean().item(),
        "colour": right[1][there].mean().item(),
        "place": min(right[2].mean().item(), right[3].mean().item()),
        "empty": right[0][~there].mean().item(),
    }


def train_tower(recipe: Recipe, out: Path) -> None:
    """Train the tower, or go on where a killed run stopped; writes `tower.safetensors`."""
    tower, schedule = build_tower(recipe), recipe.tower
    run = torch.compile(tower, dynamic=False) if recipe.compiled else tower

    def loss(step: int) -> Float[Tensor, ""]:
        first = step * schedule.batch
        batch = [train_scene(first + i, recipe.seed, recipe.world) for i in range(schedule.batch)]
        pixels = normalise(np.stack([scene.pixels for scene in batch]))
        with torch.autocast("cpu", torch.bfloat16):
            predicted = run(pixels)
        return tower_loss(predicted, batch)

    held = scenes("val", CHECKED, version=recipe.world)
    shown = normalise(np.stack([scene.pixels for scene in held]))
    named = dict(tower.named_parameters())
    learner = Learner(
        tower,
        dict.fromkeys(named, 1.0),
        loss,
        score=lambda: tower_score(tower, held, shown),
        matrices=frozenset(name for name, p in named.items() if p.ndim == 2 and "encoder.layers" in name),
    )
    facts = {"world": str(recipe.world), "seed": str(recipe.seed)}
    optimise(learner, schedule, out / "tower.safetensors", facts)
