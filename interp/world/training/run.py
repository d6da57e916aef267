"""The stages in order, as processes; and the finished model as a folder that Hugging Face can load."""

import logging
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from torch import multiprocessing
from transformers import GenerationConfig, LlavaForConditionalGeneration

from interp.world.processor import build_processor, build_tokenizer
from interp.world.training.config import Recipe
from interp.world.training.language import train_language
from interp.world.training.multimodal import train_multimodal, trained_model
from interp.world.training.vision import train_placing, train_vision

Stage = Literal["vision", "language", "multimodal", "placing", "tuning", "all"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


def train(recipe: Recipe, out: Path, stage: Stage | str = "all") -> None:
    """Run one stage or all; what is finished is skipped, what was killed goes on from its last checkpoint.

    Vision and language run side by side, one single-threaded process each; `recipe.processes` single-threaded
    processes train both together.

    Args:
        recipe: What to do.
        out: Folder of checkpoints and logs.
        stage: Which part.

    Raises:
        ValueError: When there is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    out.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in STAGES[:-1] if stage in (name, "all")]
    alone = {"vision": train_vision, "language": train_language, "placing": train_placing}
    for group in (("vision", "language"), ("multimodal",), ("placing",), ("tuning",)):
        names = [name for name in group if name in chosen]
        if names and names[0] in ("multimodal", "tuning"):
            (out / "meeting").unlink(missing_ok=True)
            _finish([_process(train_multimodal, rank, recipe, out, names[0]) for rank in range(recipe.processes)])
        else:
            _finish([_process(alone[name], recipe, out) for name in names])


def _process(function: Callable[..., None], *arguments: object) -> SpawnProcess:
    context = multiprocessing.get_context("spawn")
    return context.Process(target=_work, args=(function, *arguments), name=function.__name__)


def _work(function: Callable[..., None], *arguments: object) -> None:
    logging.basicConfig(level=logging.INFO)
    function(*arguments)


def _finish(processes: list) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = [process.name for process in processes if process.exitcode]
    if failed:
        raise RuntimeError(f"{', '.join(failed)} failed; run the same command again to go on from the last checkpoint")


def load_trained(recipe: Recipe, out: Path) -> LlavaForConditionalGeneration:
    """Return the network as the last stage's last checkpoint has it."""
    return trained_model(recipe, out, build_tokenizer(), "tuning")


def export(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write model and processor, in half precision, so that `from_pretrained(folder)` loads both."""
    model.config._attn_implementation = "sdpa"
    tokens = model.config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        do_sample=False,
        max_new_tokens=100,
    )
    model.to(torch.float16).save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    build_processor().save_pretrained(folder)
