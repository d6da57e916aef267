"""One optimisation loop for every stage, and its checkpoints: atomic files that a killed run goes on from."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.world.ladder.config import Schedule
from interp.world.training.state import load_tensors, save_tensors

logger = logging.getLogger(__name__)


def keep(_: list[Tensor]) -> None:
    """Leave the gradients of a single process as they are."""


@final
@dataclass(frozen=True)
class Learner:
    """What one stage optimises.

    Attributes:
        module: Holds all state that a checkpoint keeps.
        rates: Trainable parameters by name, each with its learning rate over the stage's.
        loss: From the step to the loss of that step's batch; the step alone decides the batch.
        score: Measured on validation scenes; higher is better, the schedule's target is compared with it.
        matrices: Names of the hidden matrices, which Muon may update.
        share: Called on the gradients before the update; averages them over processes, where there are several.
        leader: Only the leader among several processes writes.
    """

    module: nn.Module
    rates: Mapping[str, float]
    loss: Callable[[int], Float[Tensor, ""]]
    score: Callable[[], dict[str, float]] | None = None
    matrices: frozenset[str] = frozenset()
    share: Callable[[list[Tensor]], None] = keep
    leader: bool = True

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name."""
        named = dict(self.module.named_parameters())
        return {name: named[name] for name in self.rates}


@final
@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        step: Steps that are done.
        stable: Step at which the anneal begins.
        steps: Step at which the stage ends.
    """

    step: int
    stable: int
    steps: int


def learning_rate(step: int, schedule: Schedule, stable: int) -> float:
    """Return the learning rate at a step: linear warm-up, the stable rate, and a linear anneal from `stable` on."""
    warm = min(1.0, (step + 1) / max(1, schedule.warmup))
    left = 1.0 if step < stable else 1 - (step - stable + 1) / (schedule.anneal + 1)
    return float(schedule.rate * warm * (schedule.floor + (1 - schedule.floor) * left))


def build_optimizers(learner: Learner, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a stage, one group per parameter; only matrices decay, embeddings do not."""
    groups: dict[bool, list[dict]] = {False: [], True: []}
    for name, parameter in learner.parameters.items():
        hidden = schedule.muon and name in learner.matrices
        decays = parameter.ndim == 2 and "embed" not in name
        group = {"params": [parameter], "scale": learner.rates[name], "weight_decay": schedule.decay if decays else 0.0}
        groups[hidden].append(group)
    made: list[torch.optim.Optimizer] = []
    if groups[False]:
        made.append(torch.optim.AdamW(groups[False], lr=schedule.rate, betas=(0.9, schedule.beta), fused=True))
    if groups[True]:
        made.append(torch.optim.Muon(groups[True], lr=schedule.rate, adjust_lr_fn="match_rms_adamw"))
    return made


def _states(learner: Learner, optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, nn.Parameter, dict]]:
    """Yield every trainable parameter with its name and the state of its optimiser."""
    owner = {id(p): opt for opt in optimizers for group in opt.param_groups for p in group["params"]}
    for name, parameter in learner.parameters.items():
        yield name, parameter, owner[id(parameter)].state


def save_progress(
    path: Path, learner: Learner, optimizers: list[torch.optim.Optimizer], progress: Progress, facts: Mapping[str, str]
) -> None:
    """Write weights, optimiser state and progress in one move."""
    tensors = {f"model.{name}": tensor for name, tensor in learner.module.state_dict().items()}
    for name, parameter, state in _states(learner, optimizers):
        tensors |= {f"optimizer.{name}.{key}": value for key, value in state[parameter].items()}
    counts = {"step": progress.step, "stable": progress.stable, "steps": progress.steps}
    save_tensors(path, tensors, {**facts, **{key: str(value) for key, value in counts.items()}})


def load_weights(path: Path, module: nn.Module, facts: Mapping[str, str]) -> dict[str, str]:
    """Put the weights of a stage's checkpoint into a module and return the checkpoint's metadata.

    Args:
        path: The checkpoint.
        module: What the stage optimised.
        facts: What the checkpoint must have been made under: version of the world, seed.

    Raises:
        ValueError: When it was made under other facts.
    """
    tensors, metadata = load_tensors(path)
    check_facts(path, metadata, facts)
    module.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    return metadata


def check_facts(path: Path, metadata: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Refuse a checkpoint of another world's version or of another seed.

    Raises:
        ValueError: When a fact differs, with both values and what to do.
    """
    for name, wanted in facts.items():
        if metadata.get(name) != wanted:
            raise ValueError(
                f"{path} was made with {name} {metadata.get(name, 'unknown')}, the recipe wants {name} {wanted}; "
                "choose another folder, or the recipe that this one was made with"
            )


def load_progress(
    path: Path,
    learner: Learner,
    optimizers: list[torch.optim.Optimizer],
    schedule: Schedule,
    facts: Mapping[str, str],
) -> Progress:
    """Restore what `save_progress` wrote, if there is any, and return where to go on.

    A checkpoint beyond the stable phase of a shorter schedule is left for the one at the end of its stable phase.
    """
    stable = schedule.steps - schedule.anneal
    if not path.exists():
        return Progress(0, stable, schedule.steps)
    _, metadata = load_tensors(path)
    step, ended, early = int(metadata["step"]), int(metadata["stable"]), "early" in metadata
    if early:
        stable = ended
    elif ended != stable and step > ended:
        path = stable_path(path)
    metadata = load_weights(path, learner.module, facts)
    tensors, _ = load_tensors(path)
    for name, parameter, state in _states(learner, optimizers):
        prefix = f"optimizer.{name}."
        state[parameter] = {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
    return Progress(int(metadata["step"]), stable, stable + schedule.anneal)


def stable_path(path: Path) -> Path:
    """Return where the end of the stable phase is kept."""
    return path.with_name(f"{path.stem}.stable.safetensors")


def finished(path: Path, schedule: Schedule) -> bool:
    """Whether a stage's checkpoint is its last one under a schedule."""
    if not path.exists():
        return False
    _, metadata = load_tensors(path)
    own = "early" in metadata or int(metadata["steps"]) == schedule.steps
    return own and int(metadata["step"]) >= int(metadata["steps"])


def optimise(learner: Learner, schedule: Schedule, path: Path, facts: Mapping[str, str]) -> None:
    """Run a stage from its last checkpoint, or from the start, to its last step.

    Args:
        learner: What to optimise.
        schedule: How.
        path: Checkpoint; lines of the log go to the same name with the ending `.jsonl`.
        facts: Written into every checkpoint, and compared when one is read.
    """
    optimizers = build_optimizers(learner, schedule)
    progress = load_progress(path, learner, optimizers, schedule, facts)
    facts, early = dict(facts), False
    first, started, recent = progress.step, time.monotonic(), []
    while progress.step < progress.steps:
        recent.append(_update(learner, optimizers, schedule, progress))
        progress = Progress(progress.step + 1, progress.stable, progress.steps)
        if learner.leader and progress.step % schedule.log_every == 0:
            pace = (progress.step - first) / (time.monotonic() - started)
            _log(path, {"step": progress.step, "loss": round(float(np.mean(recent)), 4), "pace": round(pace, 3)})
            recent.clear()
        if learner.score and progress.step % schedule.check_every == 0:
            early = _check(learner, learner.score(), schedule, path, progress)
        if early and progress.step < progress.stable:
            progress = Progress(progress.step, progress.step, progress.step + schedule.anneal)
            facts["early"] = "yes"
        if learner.leader and progress.step == progress.stable:
            save_progress(stable_path(path), learner, optimizers, progress, facts)
        if learner.leader and (progress.step % schedule.save_every == 0 or progress.step == progress.steps):
            save_progress(path, learner, optimizers, progress, facts)


def _check(learner: Learner, scores: Mapping[str, float], schedule: Schedule, path: Path, progress: Progress) -> bool:
    """Log the scores of a step and return whether the first of them has reached the target."""
    if learner.leader:
        _log(path, {"step": progress.step} | {name: round(value, 4) for name, value in scores.items()})
    return schedule.target is not None and next(iter(scores.values())) >= schedule.target


def _update(learner: Learner, optimizers: list[torch.optim.Optimizer], schedule: Schedule, progress: Progress) -> float:
    """Make one step and return its loss."""
    rate = learning_rate(progress.step, schedule, progress.stable)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * rate
    loss = learner.loss(progress.step)
    loss.backward()
    learner.share([parameter.grad for parameter in learner.parameters.values() if parameter.grad is not None])
    nn.utils.clip_grad_norm_(learner.parameters.values(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    learner.module.zero_grad(set_to_none=False)
    return loss.item()


def _log(path: Path, line: Mapping[str, float | int]) -> None:
    with path.with_suffix(".jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    logger.info("%s %s", path.stem, line)
