"""Second stage: the decoder alone learns the world's priors from text, its heads waking from the planted rest."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from interp.world.batches import text_row
from interp.world.ladder.config import Recipe
from interp.world.ladder.loop import Learner, load_weights, optimise
from interp.world.processor import build_tokenizer
from interp.world.training.language import Decoder, causal_mask
from interp.world.training.network import build_network
from interp.world.version import find_world


def hidden_matrices(names: dict[str, Tensor]) -> frozenset[str]:
    """Return the decoder's matrices that are neither embeddings nor the output layer."""
    return frozenset(name for name, p in names.items() if p.ndim == 2 and "language_model.layers" in name)


def train_language(recipe: Recipe, out: Path) -> None:
    """Train the decoder on text, or go on where a killed run stopped; writes `language.safetensors`."""
    tokenizer, schedule, world = build_tokenizer(), recipe.language, find_world(recipe.world)
    decoder = Decoder(build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed))
    run = torch.compile(decoder, dynamic=False) if recipe.compiled else decoder
    length = recipe.rows.text
    mask = causal_mask(schedule.batch, length).contiguous()

    def loss(step: int) -> Float[Tensor, ""]:
        generators = [np.random.default_rng((recipe.seed, 17, step, row)) for row in range(schedule.batch)]
        rows = (text_row(each, tokenizer, length + 1, world, copying=recipe.rows.copying) for each in generators)
        ids = torch.tensor(list(rows))
        with torch.autocast("cpu", torch.bfloat16):
            logits = run(ids[:, :-1].contiguous(), mask)
        targets = ids[:, 1:].flatten()
        return F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=tokenizer.pad_token_id)

    named = dict(decoder.named_parameters())
    learner = Learner(decoder, dict.fromkeys(named, 1.0), loss, matrices=hidden_matrices(named))
    facts = {"world": str(recipe.world), "seed": str(recipe.seed)}
    optimise(learner, schedule, out / "language.safetensors", facts)


def load_decoder(path: Path, model: LlavaForConditionalGeneration, recipe: Recipe) -> None:
    """Put the decoder of a checkpoint of this stage into a model."""
    load_weights(path, Decoder(model), {"world": str(recipe.world), "seed": str(recipe.seed)})
