"""One optimisation loop for every stage, and its checkpoints: atomic files that a killed run goes on from."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from interp.world.training.config import StageConfig

logger = logging.getLogger(__name__)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, dict(metadata or {}))
    partial.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def learning_rate(step: int, config: StageConfig) -> float:
    """Return the learning rate at a step: linear warm-up, then a cosine from the peak to the floor."""
    warm = min(1.0, (step + 1) / config.warmup)
    cosine = 0.5 * (1 + np.cos(np.pi * min(1.0, step / config.steps)))
    return float(config.rate * warm * (config.floor + (1 - config.floor) * cosine))


@final
@dataclass(frozen=True)
class Learner:
    """What one stage optimises.

    Attributes:
        module: Holds all state that a checkpoint keeps.
        rates: Trainable parameters by name, each with its learning rate over the stage's.
        loss: From the step to the loss of that step's batch; the step alone decides the batch.
        share: Called on the gradients before the update; averages them over processes, where there are several.
    """

    module: nn.Module
    rates: Mapping[str, float]
    loss: Callable[[int], Float[Tensor, ""]]
    share: Callable[[list[Tensor]], None]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name."""
        named = dict(self.module.named_parameters())
        return {name: named[name] for name in self.rates}


def make_optimizer(learner: Learner, config: StageConfig) -> torch.optim.AdamW:
    """Return AdamW with one group per parameter; only matrices decay, embeddings do not."""
    parts = [
        {
            "params": [parameter],
            "scale": learner.rates[name],
            "weight_decay": config.decay if parameter.ndim == 2 and "embed" not in name else 0.0,
        }
        for name, parameter in learner.parameters.items()
    ]
    return torch.optim.AdamW(parts, lr=config.rate, betas=(0.9, config.beta), fused=True)


def save_progress(path: Path, learner: Learner, optimizer: torch.optim.AdamW, step: int) -> None:
    """Write weights, optimiser state and step count."""
    tensors = {f"model.{name}": tensor for name, tensor in learner.module.state_dict().items()}
    for name, parameter in learner.parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value
    save_tensors(path, tensors, {"step": str(step)})


def load_progress(path: Path, learner: Learner, optimizer: torch.optim.AdamW) -> int:
    """Restore what `save_progress` wrote, if there is any, and return the step to go on from."""
    if not path.exists():
        return 0
    tensors, metadata = load_tensors(path)
    learner.module.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    for name, parameter in learner.parameters.items():
        optimizer.state[parameter] = {
            key: tensors[f"optimizer.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")
        }
    return int(metadata["step"])


def optimise(learner: Learner, config: StageConfig, path: Path, *, leader: bool = True, label: str = "") -> None:
    """Run a stage from its last checkpoint, or from the start, to its last step.

    Args:
        learner: What to optimise.
        config: How.
        path: Checkpoint; a line per `log_every` steps goes to the same name with the ending `.jsonl`.
        leader: Only the leader among several processes writes.
        label: Name of the progress bar.
    """
    optimizer = make_optimizer(learner, config)
    first = load_progress(path, learner, optimizer)
    parameters = list(learner.parameters.values())
    started, recent = time.monotonic(), []
    bar = tqdm(total=config.steps, initial=first, desc=label, disable=not leader, position=int(label == "language"))
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(step, config)
        loss = learner.loss(step)
        loss.backward()
        learner.share([parameter.grad for parameter in parameters if parameter.grad is not None])
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        recent.append(loss.item())
        bar.update()
        done = step + 1
        if leader and done % config.log_every == 0:
            pace = (done - first) / (time.monotonic() - started)
            line = {"step": done, "loss": round(float(np.mean(recent)), 4), "steps_per_second": round(pace, 3)}
            with path.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            logger.info("%s %s", label, line)
            recent.clear()
        if leader and (done % config.save_every == 0 or done == config.steps):
            save_progress(path, learner, optimizer, done)
    bar.close()
