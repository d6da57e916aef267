"""Train, export and measure a model of the ladder.

`python -m interp.world.ladder scenes --out runs/scenes --export runs/scenes/model` trains, or goes on with, the default
model; `--measure 300` then asks it about 300 scenes and prints the table of targets.
"""

import argparse
import json
import logging
from pathlib import Path

import torch

from interp.world.ladder.config import read_recipe, recipe_names
from interp.world.ladder.export import export
from interp.world.ladder.run import STAGES, load_trained, train


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interp.world.ladder", description=__doc__)
    parser.add_argument("recipe", help=f"a TOML file or one of {', '.join(recipe_names())}")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and logs")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES, help="by default all; none with no name")
    parser.add_argument("--checkpoint", default="joint", help="which one to export and measure; by default the last")
    parser.add_argument("--export", type=Path, help="write the model to this folder")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="ask about N scenes of every kind")
    return parser.parse_args()


def main() -> None:
    """Read the command line and do what it says; the same command goes on where a killed run stopped."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logger = logging.getLogger(__name__)
    recipe = read_recipe(given.recipe)
    train(recipe, given.out, given.stages)
    if given.measure:
        from interp.world.card import as_plain
        from interp.world.ladder.card import measured_page
        from interp.world.processor import build_processor
        from interp.world.targets import measure

        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        model = load_trained(recipe, given.out, given.checkpoint)
        found = measure(model, build_processor(), version=recipe.world, n=given.measure)
        place = given.out / f"measured-{given.checkpoint}"
        place.with_suffix(".json").write_text(json.dumps(as_plain(found), indent=1) + "\n")
        text = measured_page(found, recipe, n=given.measure)
        place.with_suffix(".md").write_text(text)
        logger.info("%s", text)
    if given.export:
        export(load_trained(recipe, given.out, given.checkpoint), recipe, given.export)
        logger.info("model and processor: %s", given.export)


if __name__ == "__main__":
    main()
