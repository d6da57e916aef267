"""Third and fourth stage: the projector alone, then projector and decoder, learn to speak about images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from interp.world.batches import IGNORED, normalise
from interp.world.denormals import flush_denormals
from interp.world.ladder.config import Recipe
from interp.world.ladder.language import hidden_matrices, load_decoder
from interp.world.ladder.loop import Learner, keep, load_weights, optimise
from interp.world.ladder.rows import Batch, RowMaker
from interp.world.ladder.tower import load_tower
from interp.world.processor import IMAGE_TOKENS, build_tokenizer
from interp.world.scene import Scene, scenes, train_scene
from interp.world.training.multimodal import average
from interp.world.training.network import build_network

Stage = Literal["projector", "joint"]
FIRST: Final = {"projector": 5 * 10**7, "joint": 6 * 10**7}
"""Number of each stage's first scene: no other stage has seen them."""
STREAM: Final = {"projector": 18, "joint": 19}
"""Random stream of each stage's rows."""
CHECKED: Final = 64
"""Validation rows of the score."""


class Speaker(nn.Module):
    """A LLaVA that answers about images; its logits only behind the first prefix, where the answers are."""

    def __init__(self, model: LlavaForConditionalGeneration, maker: RowMaker) -> None:
        """Remember where the images go."""
        super().__init__()
        self.model = model
        self.image, self.start, self.prefix = maker.image, maker.image_start, maker.prefix

    def _put(
        self,
        embedded: Float[Tensor, "sample token dim"],
        ids: Int[Tensor, "sample token"],
        image: Float[Tensor, "sample patch dim"],
        start: int,
    ) -> Float[Tensor, "sample token dim"]:
        """Return the embeddings with an image in place of the image tokens from `start` on, where a row has them."""
        end = start + IMAGE_TOKENS
        shown = (ids[:, start:end] == self.image)[..., None]
        return torch.cat([embedded[:, :start], torch.where(shown, image, embedded[:, start:end]), embedded[:, end:]], 1)

    def forward(
        self,
        pixels: Float[Tensor, "image channel row col"],
        ids: Int[Tensor, "sample token"],
        positions: Int[Tensor, "sample token"],
        mask: Float[Tensor, "sample 1 query key"],
    ) -> Float[Tensor, "sample answer vocab"]:
        """Return the logits from the last token of the prefix on.

        The images are one per row, then the second images of the last rows.
        """
        inner, rows = self.model.model, len(ids)
        with torch.no_grad():
            patches = inner.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        image = inner.multi_modal_projector(patches)
        embedded = self._put(inner.language_model.embed_tokens(ids), ids, image[:rows], self.start)
        pairs = len(pixels) - rows
        if pairs:
            second = self._put(embedded[rows - pairs :], ids[rows - pairs :], image[rows:], self.prefix)
            embedded = torch.cat([embedded[: rows - pairs], second])
        states = inner.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.model.lm_head(states[:, self.prefix - 1 :])


def additive(batch: Batch) -> Float[Tensor, "sample 1 query key"]:
    """Return the mask of some rows as it is added to the scores."""
    return torch.where(batch.allowed, 0.0, torch.finfo(torch.float32).min)[:, None]


def shown_pixels(shown: Sequence[Sequence[Scene]]) -> Float[Tensor, "image channel row col"]:
    """Return the first image of every row, then the second ones."""
    drawn = [scenes[0] for scenes in shown] + [scenes[1] for scenes in shown if len(scenes) > 1]
    return normalise(np.stack([scene.pixels for scene in drawn]))


def weighted_loss(logits: Float[Tensor, "sample answer vocab"], batch: Batch, prefix: int) -> Float[Tensor, ""]:
    """Return the cross-entropy of the answers, each with its weight, in nats per unit of weight."""
    targets = batch.targets[:, prefix - 1 :].flatten()
    weights = batch.weights[:, prefix - 1 :].flatten() * (targets != IGNORED)
    each = F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORED, reduction="none")
    return (each * weights).sum() / weights.sum()


def joint_loss(
    speaker: nn.Module, maker: RowMaker, recipe: Recipe, stage: Stage, rank: int = 0
) -> Callable[[int], Tensor]:
    """Return the loss of a step's batch as a function of the step, over the rows of one of the processes."""
    batch, pairs = getattr(recipe, stage).batch, maker.settings.pairs
    used = batch + pairs

    def loss(step: int) -> Float[Tensor, ""]:
        first = FIRST[stage] + step * used

        def scene(index: int) -> Scene:
            return train_scene(first + index, recipe.seed, recipe.world)

        mine = range(rank, batch, recipe.processes)
        shown = [(scene(row), scene(row + pairs)) if row >= batch - pairs else (scene(row),) for row in mine]
        generators = [np.random.default_rng((recipe.seed, STREAM[stage], step, row)) for row in mine]
        rows = maker.batch(generators, shown)
        with torch.autocast("cpu", torch.bfloat16):
            logits = speaker(shown_pixels(shown), rows.ids, rows.positions, additive(rows))
        return weighted_loss(logits, rows, maker.prefix)

    return loss


@torch.no_grad()
def joint_score(speaker: Speaker, maker: RowMaker, held: Sequence[Scene]) -> dict[str, float]:
    """Return the share of right next tokens among yes and no, and the loss of all answers, on validation scenes."""
    shown = [(scene,) for scene in held]
    rows = maker.batch([np.random.default_rng((7, row)) for row in range(len(held))], shown)
    with torch.autocast("cpu", torch.bfloat16):
        logits = speaker(shown_pixels(shown), rows.ids, rows.positions, additive(rows))
    targets = rows.targets[:, maker.prefix - 1 :]
    yes_no = torch.isin(targets, torch.tensor(maker.tokenizer.convert_tokens_to_ids(["Yes", "No"])))
    right = (logits.argmax(-1) == targets)[yes_no].float().mean().item()
    return {"yes_no": right, "validation": weighted_loss(logits, rows, maker.prefix).item()}


def build_speaker(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> tuple[Speaker, RowMaker]:
    """Return the untrained model as the joint stages see it, and the maker of their rows."""
    model = build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed)
    maker = RowMaker(tokenizer, recipe.rows, version=recipe.world, carelessness=recipe.carelessness)
    return Speaker(model, maker), maker


def start_speaker(recipe: Recipe, out: Path, speaker: Speaker, stage: Stage) -> None:
    """Put the weights that a stage starts from into the model."""
    facts = {"world": str(recipe.world), "seed": str(recipe.seed)}
    if stage == "joint":
        load_weights(out / "projector.safetensors", speaker, facts)
        return
    load_decoder(out / "language.safetensors", speaker.model, recipe)
    tower = load_tower(out / "tower.safetensors", recipe).tower
    speaker.model.model.vision_tower.load_state_dict(tower.state_dict())


@flush_denormals()
def train_joint(rank: int, recipe: Recipe, out: Path, stage: Stage) -> None:
    """Train the projector, or projector and decoder, or go on where a killed run stopped; writes the stage's checkpoint.

    Runs as one of `recipe.processes` processes, which meet in a file.
    """
    torch.set_num_threads(1)
    if recipe.processes > 1:
        meeting = (out / "meeting").absolute().as_uri()
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=recipe.processes)
    speaker, maker = build_speaker(recipe, build_tokenizer())
    start_speaker(recipe, out, speaker, stage)
    # The projector stage has gradients of the decoder that it does not use: one compiled graph serves both stages.
    speaker.model.model.vision_tower.requires_grad_(requires_grad=False)
    run = torch.compile(speaker, dynamic=False) if recipe.compiled else speaker
    faster = recipe.projector_rate if stage == "joint" else 1.0
    trained = "projector" if stage == "projector" else ""
    named = {name: p for name, p in speaker.named_parameters() if p.requires_grad and trained in name}
    held = scenes("val", CHECKED, version=recipe.world)
    learner = Learner(
        speaker,
        {name: faster if "projector" in name else 1.0 for name in named},
        joint_loss(run, maker, recipe, stage, rank),
        score=lambda: joint_score(speaker, maker, held),
        matrices=hidden_matrices(named),
        share=average if recipe.processes > 1 else keep,
        leader=rank == 0,
    )
    facts = {"world": str(recipe.world), "seed": str(recipe.seed)}
    optimise(learner, getattr(recipe, stage), out / f"{stage}.safetensors", facts)
    if recipe.processes > 1:
        dist.destroy_process_group()
