"""Second stage: the decoder alone learns the world's priors from text, its heads waking from the planted rest."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from interp.world.batches import text_batch
from interp.world.denormals import flush_denormals
from interp.world.processor import build_tokenizer
from interp.world.training.config import Recipe
from interp.world.training.network import build_network
from interp.world.training.state import Learner, load_tensors, optimise


class Decoder(nn.Module):
    """The decoder of a LLaVA with its output layer: logits from token ids."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        """Take the decoder out of the model; the weights stay shared."""
        super().__init__()
        self.language_model = model.model.language_model
        self.lm_head = model.lm_head

    def forward(
        self, ids: Int[Tensor, "sample token"], mask: Float[Tensor, "sample 1 query key"]
    ) -> Float[Tensor, "sample token vocab"]:
        """Return the logits of the next token at every position; the mask is added to the scores."""
        positions = torch.arange(ids.shape[1])[None].expand_as(ids)
        states = self.language_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.lm_head(states)


def causal_mask(samples: int, length: int) -> Float[Tensor, "sample 1 query key"]:
    """Return 0 where a query may look and the smallest float where it may not."""
    blocked = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.where(blocked, torch.finfo(torch.float32).min, 0.0).expand(samples, 1, length, length)


@flush_denormals()
def train_language(recipe: Recipe, out: Path) -> None:
    """Train the decoder on text, or go on where a killed run stopped; writes `language.safetensors`."""
    torch.set_num_threads(1)
    tokenizer, config = build_tokenizer(), recipe.language
    decoder = Decoder(build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed))
    run = torch.compile(decoder, dynamic=False) if recipe.compiled else decoder
    mask = causal_mask(config.batch, recipe.text.row).contiguous()

    def loss(step: int) -> Float[Tensor, ""]:
        ids = text_batch(step, recipe.text, tokenizer, batch=config.batch, seed=recipe.seed)
        with torch.autocast("cpu", torch.bfloat16):
            logits = run(ids[:, :-1].contiguous(), mask)
        targets = ids[:, 1:].flatten()
        return F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=tokenizer.pad_token_id)

    rates = dict.fromkeys((name for name, _ in decoder.named_parameters()), 1.0)
    learner = Learner(decoder, rates, loss, lambda _: None)
    optimise(learner, config, out / "language.safetensors", label="language")


def load_decoder(path: Path, model: LlavaForConditionalGeneration) -> None:
    """Put the decoder of a checkpoint of this stage into a model."""
    tensors, _ = load_tensors(path)
    decoder = Decoder(model)
    decoder.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
