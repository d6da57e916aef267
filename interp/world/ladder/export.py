"""The finished model as a folder that Hugging Face can load."""

from pathlib import Path

from transformers import LlavaForConditionalGeneration

from interp.world.ladder.config import Recipe
from interp.world.training.run import export as write_model
from interp.world.version import VERSION_KEY


def export(model: LlavaForConditionalGeneration, recipe: Recipe, folder: Path) -> None:
    """Write model and processor, in half precision, so that `from_pretrained(folder)` loads both.

    The version of the world and the recipe's name go into `config.json`.
    """
    setattr(model.config, VERSION_KEY, recipe.world)
    model.config.recipe = recipe.name
    write_model(model, folder)
