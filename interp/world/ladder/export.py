"""The finished model as a folder that Hugging Face can load, and the check that it is of the right world."""

from pathlib import Path
from typing import Final

from transformers import LlavaForConditionalGeneration, PretrainedConfig

from interp.world.ladder.config import Recipe
from interp.world.training.run import export as write_model

VERSION_KEY: Final = "world_version"


def export(model: LlavaForConditionalGeneration, recipe: Recipe, folder: Path) -> None:
    """Write model and processor, in half precision, so that `from_pretrained(folder)` loads both.

    The version of the world and the recipe's name go into `config.json`.
    """
    setattr(model.config, VERSION_KEY, recipe.world)
    model.config.recipe = recipe.name
    write_model(model, folder)


def world_version(config: PretrainedConfig) -> int:
    """Return the version of the world that a model was trained in; 1 for models that do not say."""
    return int(getattr(config, VERSION_KEY, 1))


def check_version(config: PretrainedConfig, wanted: int) -> None:
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
