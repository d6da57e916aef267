"""Train a model of the ladder: `python -m interp.world.ladder scenes --out runs/scenes`."""

import argparse
import logging
from pathlib import Path

from interp.world.ladder.config import read_recipe, recipe_names
from interp.world.ladder.run import train


def main() -> None:
    """Read the command line and train; the same command goes on where a killed run stopped."""
    parser = argparse.ArgumentParser(prog="python -m interp.world.ladder", description=__doc__)
    parser.add_argument("recipe", help=f"a TOML file or one of {', '.join(recipe_names())}")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and logs")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(read_recipe(given.recipe), given.out)


if __name__ == "__main__":
    main()
