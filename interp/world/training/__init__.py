"""The recipe of the shipped model: vision and language apart, then both together."""

from interp.world.training.config import Recipe, read_recipe
from interp.world.training.run import train

__all__ = ["Recipe", "read_recipe", "train"]
