"""The models of the world by name: where their weights are, what trains them, which version of the world they know."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final, final


@final
@dataclass(frozen=True)
class WorldModel:
    """One model.

    Attributes:
        name: As `interp.load` takes it.
        folder: Its folder below `interp/checkpoints`.
        version: Version of the world that it was trained in.
        about: What it is for, in a few words.
    """

    name: str
    folder: str
    version: int
    about: str

    @property
    def path(self) -> Path:
        """The folder of its weights, whether they ship or not."""
        return Path(str(files("interp"))) / "checkpoints" / self.folder

    @property
    def shipped(self) -> bool:
        """Whether its weights are there."""
        return (self.path / "config.json").is_file()


_ABOUT: Final = {
    "scenes": "the default",
    **{f"scenes/seed-{seed}": f"the default from seed {seed}" for seed in range(1, 5)},
    "scenes/large": "wider and deeper",
    "scenes/unplanted": "no planted attention sink",
    "scenes/careful": "no untrue training caption",
}

MODELS: Final[Mapping[str, WorldModel]] = MappingProxyType(
    {name: WorldModel(name, name.replace("/", "-") + "-2", 2, about) for name, about in _ABOUT.items()}
    | {"scenes/tiny": WorldModel("scenes/tiny", "scenes", 1, "the first world, for tests")}
)
"""All models of the world. Until the default of the second world ships, `interp.load("scenes")` is `scenes/tiny`."""


def find_weights(name: str) -> Path:
    """Return the folder of a model's weights.

    Raises:
        ValueError: When there is no such model.
        FileNotFoundError: When its weights do not come with the package, with the command that trains it.
    """
    if name not in MODELS:
        raise ValueError(f"no model {name!r} of the world; there are {', '.join(MODELS)}")
    model = MODELS[name]
    if not model.shipped:
        raise FileNotFoundError(
            f"the weights of {name} do not come with the package; train it with "
            f"'python -m interp.world.ladder {name} --out runs/{model.folder} --export {model.path}'"
        )
    return model.path
