"""The stages in order, and the trained model."""

import logging
import multiprocessing.connection
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from transformers import LlavaForConditionalGeneration

from interp.world.denormals import flush_denormals
from interp.world.ladder.config import Recipe
from interp.world.ladder.joint import Stage as JointStage
from interp.world.ladder.joint import build_speaker, train_joint
from interp.world.ladder.language import train_language
from interp.world.ladder.loop import finished, load_weights
from interp.world.ladder.tower import train_tower
from interp.world.processor import build_tokenizer

Stage = Literal["tower", "language", "projector", "joint"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

JOINING: Final = 60
"""Seconds in which the processes of a stage end after the first one has."""

logger = logging.getLogger(__name__)


@flush_denormals()
def train(recipe: Recipe, out: Path, stages: Sequence[Stage] = STAGES) -> None:
    """Run stages in order; what is finished is skipped, what was killed goes on from its last checkpoint.

    Every process has one thread, so that the same recipe leads to the same weights.

    Args:
        recipe: What to do.
        out: Folder of checkpoints and logs.
        stages: Which ones; by default all. The tower and the language stage do not need each other.

    Raises:
        ValueError: When the folder holds checkpoints of another version of the world or of another seed.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if finished(out / f"{stage}.safetensors", getattr(recipe, stage)):
            continue
        logger.info("%s: %s", recipe.name, stage)
        if stage == "tower":
            train_tower(recipe, out)
        elif stage == "language":
            train_language(recipe, out)
        elif recipe.processes == 1:
            train_joint(0, recipe, out, stage)
        else:
            _share(recipe, out, stage)


def _share(recipe: Recipe, out: Path, stage: JointStage) -> None:
    """Run a joint stage in several processes, which meet in a file."""
    (out / "meeting").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    ranks = range(recipe.processes)
    processes = [
        context.Process(target=_work, args=(rank, recipe, out, stage), name=f"{stage}-{rank}") for rank in ranks
    ]
    for process in processes:
        process.start()
    multiprocessing.connection.wait([process.sentinel for process in processes])
    failed = []
    for process in processes:
        # When one has failed, the others would wait for it.
        process.join(timeout=JOINING)
        if process.exitcode != 0:
            process.terminate()
            failed.append(process.name)
    if failed:
        raise RuntimeError(f"{', '.join(failed)} failed; run the same command again to go on from the last checkpoint")


def _work(rank: int, recipe: Recipe, out: Path, stage: JointStage) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_joint(rank, recipe, out, stage)


def load_trained(recipe: Recipe, out: Path, checkpoint: str = "joint") -> LlavaForConditionalGeneration:
    """Return the model as a checkpoint of a joint stage has it.

    Args:
        recipe: What it was trained by.
        out: Folder of the run.
        checkpoint: Name of the file without its ending, such as "joint.stable" for the end of the stable phase.

    Raises:
        ValueError: When the checkpoint is of another version of the world or of another seed.
    """
    speaker, _ = build_speaker(recipe, build_tokenizer())
    facts = {"world": str(recipe.world), "seed": str(recipe.seed)}
    load_weights(out / f"{checkpoint}.safetensors", speaker, facts)
    return speaker.model.eval()
