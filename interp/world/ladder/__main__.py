"""Train, export and measure a model of the ladder.

`python -m interp.world.ladder scenes --out runs/scenes --export runs/scenes/model` trains, or goes on with, the default
model; `--measure 300` then asks it about 300 scenes and prints the table of targets.
"""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch

from interp.world.card import as_plain
from interp.world.decision import measure_decision, summarise
from interp.world.denormals import flush_denormals
from interp.world.ladder.card import measured_page
from interp.world.ladder.config import Recipe, read_recipe, recipe_names
from interp.world.ladder.export import export
from interp.world.ladder.rest import measure_rests
from interp.world.ladder.run import STAGES, load_trained, train
from interp.world.processor import build_processor
from interp.world.scene import scenes
from interp.world.targets import measure


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interp.world.ladder", description=__doc__)
    parser.add_argument("recipe", help=f"a TOML file or one of {', '.join(recipe_names())}")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and logs")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES, help="by default all; none with no name")
    parser.add_argument("--checkpoint", default="joint", help="which one to export and measure; by default the last")
    parser.add_argument("--export", type=Path, help="write the model to this folder")
    parser.add_argument("--measure", type=int, default=0, metavar="N", help="ask about N scenes of every kind")
    return parser.parse_args()


@flush_denormals()
def _measure(recipe: Recipe, out: Path, checkpoint: str, n: int) -> str:
    """Ask about n scenes of every kind, write the figures as JSON and as a page, and return the page."""
    torch.set_num_threads(1)
    model, processor = load_trained(recipe, out, checkpoint), build_processor()
    found = measure(model, processor, version=recipe.world, n=n)
    about = scenes("counter_prior", n - n % 14, version=recipe.world)
    shifts = summarise(measure_decision(model, processor, about), about)
    rests = measure_rests(recipe, out, checkpoint)
    place = out / f"measured-{checkpoint}"
    figures = {"n": n, "recipe": asdict(recipe), "measured": found, "decision": shifts, "rest": rests}
    place.with_name(f"{place.name}.json").write_text(json.dumps(as_plain(figures), indent=1) + "\n")
    text = measured_page(found, recipe, n=n, shifts=shifts, rests=rests)
    place.with_name(f"{place.name}.md").write_text(text)
    return text


def main() -> None:
    """Read the command line and do what it says; the same command goes on where a killed run stopped."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logger = logging.getLogger(__name__)
    recipe = read_recipe(given.recipe)
    train(recipe, given.out, given.stages)
    if given.measure:
        logger.info("%s", _measure(recipe, given.out, given.checkpoint, given.measure))
    if given.export:
        export(load_trained(recipe, given.out, given.checkpoint), recipe, given.export)
        logger.info("model and processor: %s", given.export)


if __name__ == "__main__":
    main()
