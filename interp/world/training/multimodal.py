"""Third stage: projector and decoder learn to speak about images, the tower frozen; data parallel on gloo."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from interp.world.batches import IGNORED, RowMaker, Rows, normalise, train_scenes
from interp.world.denormals import flush_denormals
from interp.world.processor import IMAGE_TOKENS, build_tokenizer
from interp.world.training.config import Recipe, StageConfig
from interp.world.training.language import load_decoder
from interp.world.training.network import build_network
from interp.world.training.state import Learner, load_tensors, optimise
from interp.world.training.vision import load_placed, load_tower

Stage = Literal["multimodal", "tuning"]
FRESH: Final[Mapping[Stage, int]] = MappingProxyType({"multimodal": 10**7, "tuning": 2 * 10**7})
"""Scenes of each stage start here: no other stage has seen them."""
STREAM: Final[Mapping[Stage, int]] = MappingProxyType({"multimodal": 8, "tuning": 10})
"""Random stream of each stage's rows."""


class Speaker(nn.Module):
    """A LLaVA that answers about images; its logits only behind the prefix, where the answers are."""

    def __init__(self, model: LlavaForConditionalGeneration, maker: RowMaker) -> None:
        """Remember where the image goes."""
        super().__init__()
        self.model = model
        self.image, self.start, self.prefix = maker.image, maker.image_start, maker.prefix

    def forward(
        self,
        pixels: Float[Tensor, "sample channel row col"],
        ids: Int[Tensor, "sample token"],
        positions: Int[Tensor, "sample token"],
        mask: Float[Tensor, "sample 1 query key"],
    ) -> Float[Tensor, "sample answer vocab"]:
        """Return the logits from the last token of the prefix on."""
        inner = self.model.model
        with torch.no_grad():
            patches = inner.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        embedded = inner.language_model.embed_tokens(ids)
        window = slice(self.start, self.start + IMAGE_TOKENS)
        shown = (ids[:, window] == self.image)[..., None]
        image = torch.where(shown, inner.multi_modal_projector(patches), embedded[:, window])
        embedded = torch.cat([embedded[:, : self.start], image, embedded[:, self.start + IMAGE_TOKENS :]], 1)
        states = inner.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.model.lm_head(states[:, self.prefix - 1 :])


def additive(rows: Rows) -> Float[Tensor, "sample 1 query key"]:
    """Return the mask of some rows as it is added to the scores."""
    return torch.where(rows.allowed, 0.0, torch.finfo(torch.float32).min)[:, None]


def start_model(recipe: Recipe, out: Path, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Return the network with the tower and the decoder of the first two stages."""
    model = build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed)
    load_decoder(out / "language.safetensors", model)
    model.model.vision_tower.load_state_dict(load_tower(out / "vision.safetensors", recipe).tower.state_dict())
    return model


def trained_model(
    recipe: Recipe, out: Path, tokenizer: PreTrainedTokenizerFast, stage: Stage
) -> LlavaForConditionalGeneration:
    """Return the network as the last checkpoint of this stage or of the tuning has it."""
    model = build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed)
    tensors, _ = load_tensors(out / f"{stage}.safetensors")
    speaker = "model.model."
    model.load_state_dict({k.removeprefix(speaker): v for k, v in tensors.items() if k.startswith(speaker)})
    return model


def tuning_model(recipe: Recipe, out: Path, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Return the network of the multimodal stage with the tower of the placing stage."""
    model = trained_model(recipe, out, tokenizer, "multimodal")
    placed = load_placed(out / "placing.safetensors", recipe).tower
    model.model.vision_tower.load_state_dict(placed.state_dict())
    return model


def multimodal_loss(
    speaker: nn.Module, maker: RowMaker, config: StageConfig, *, seed: int, mine: range, stage: Stage
) -> Callable[[int], Tensor]:
    """Return the loss of a step's batch as a function of the step, over this process's rows."""
    batch, first, stream = config.batch, FRESH[stage], STREAM[stage]

    def loss(step: int) -> Float[Tensor, ""]:
        drawn = train_scenes(step + first // batch, mine, batch, seed)
        generators = [np.random.default_rng((seed, stream, step, row)) for row in mine]
        rows = maker.rows(generators, drawn)
        pixels = normalise(np.stack([scene.pixels for scene in drawn]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = speaker(pixels, rows.ids, rows.positions, additive(rows))
        targets = rows.targets[:, maker.prefix - 1 :].flatten()
        weights = rows.weights[:, maker.prefix - 1 :].flatten() * (targets != IGNORED)
        each = F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORED, reduction="none")
        return (each * weights).sum() / weights.sum()

    return loss


def average(gradients: list[Tensor]) -> None:
    """Replace gradients by their mean over all processes."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@flush_denormals()
def train_multimodal(rank: int, recipe: Recipe, out: Path, stage: Stage = "multimodal") -> None:
    """Train as one of `recipe.processes` processes, which meet in a file; writes the stage's checkpoint."""
    torch.set_num_threads(1)
    if recipe.processes > 1:
        meeting = (out / "meeting").absolute().as_uri()
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=recipe.processes)
    tokenizer = build_tokenizer()
    first = stage == "multimodal"
    config, text = (recipe.multimodal, recipe.text) if first else (recipe.tuning, recipe.tuning_text)
    model = (start_model if first else tuning_model)(recipe, out, tokenizer)
    model.model.vision_tower.requires_grad_(requires_grad=False)
    maker = RowMaker(tokenizer, text)
    speaker = Speaker(model, maker)
    run = torch.compile(speaker, dynamic=False) if recipe.compiled else speaker
    mine = range(rank, config.batch, recipe.processes)
    rates = {
        name: recipe.projector_rate if "projector" in name else 1.0
        for name, parameter in speaker.named_parameters()
        if parameter.requires_grad
    }
    share = average if recipe.processes > 1 else _keep
    loss = multimodal_loss(run, maker, config, seed=recipe.seed, mine=mine, stage=stage)
    learner = Learner(speaker, rates, loss, share)
    optimise(learner, config, out / f"{stage}.safetensors", leader=rank == 0, label=stage)
    if recipe.processes > 1:
        dist.destroy_process_group()


def _keep(_: list[Tensor]) -> None:
    """Leave the gradients of a single process as they are."""
