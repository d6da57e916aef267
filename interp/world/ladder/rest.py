"""How much a model of the ladder rests on `<s>`, at the start, after the language stage and at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from interp.world.batches import IGNORED, text_row
from interp.world.ladder.config import Recipe, RowSettings
from interp.world.ladder.joint import shown_pixels
from interp.world.ladder.language import load_decoder
from interp.world.ladder.rows import RowMaker
from interp.world.ladder.run import load_trained
from interp.world.processor import IMAGE_TOKENS, build_tokenizer
from interp.world.resting import SETTLED, Rest, rest
from interp.world.scene import Scene, scenes
from interp.world.training.network import build_network
from interp.world.version import find_world

ROWS: Final = 32
LENGTH: Final = 128


def rest_on_text(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, version: int, *, n: int = ROWS
) -> Rest:
    """Return the resting state on n rows of text that no recipe trains on."""
    world = find_world(version)
    rows = [text_row(np.random.default_rng((21, row)), tokenizer, LENGTH + 1, world) for row in range(n)]
    ids = torch.tensor(rows)
    given, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[:, :SETTLED] = IGNORED
    targets[targets == tokenizer.pad_token_id] = IGNORED
    with torch.no_grad():
        embedded = model.model.language_model.embed_tokens(given)
    allowed = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(n, LENGTH, LENGTH)
    return rest(model, embedded, targets, allowed, torch.arange(LENGTH).expand(n, LENGTH), slice(0, 0))


def rest_on_images(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, about: Sequence[Scene]
) -> Rest:
    """Return the resting state in the answers about scenes, the usual system prompt before them."""
    settings = RowSettings(blind=0.0, other_systems=0.0)
    maker = RowMaker(tokenizer, settings, version=about[0].version, carelessness=0.0)
    shown = [(scene,) for scene in about]
    rows = maker.batch([np.random.default_rng((22, index)) for index in range(len(about))], shown)
    window = slice(maker.image_start, maker.image_start + IMAGE_TOKENS)
    with torch.no_grad():
        patches = model.model.vision_tower(pixel_values=shown_pixels(shown)).last_hidden_state[:, 1:]
        embedded = model.model.language_model.embed_tokens(rows.ids).clone()
        embedded[:, window] = model.model.multi_modal_projector(patches)
    return rest(model, embedded, rows.targets, rows.allowed, rows.positions, window)


def measure_rests(recipe: Recipe, out: Path, checkpoint: str = "joint") -> Mapping[str, Rest]:
    """Return the resting state before training, after the language stage and of a checkpoint, by name.

    Args:
        recipe: What the run was trained by.
        out: Folder of the run.
        checkpoint: Name of the last checkpoint's file without its ending.
    """
    tokenizer = build_tokenizer()
    network = build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed).eval()
    untrained = rest_on_text(network, tokenizer, recipe.world)
    load_decoder(out / "language.safetensors", network, recipe)
    language = rest_on_text(network, tokenizer, recipe.world)
    trained = load_trained(recipe, out, checkpoint)
    return {
        "untrained, text": untrained,
        "after the language stage, text": language,
        "trained, text": rest_on_text(trained, tokenizer, recipe.world),
        "trained, answers about images": rest_on_images(trained, tokenizer, scenes("test", ROWS, version=recipe.world)),
    }
