"""The card of the shipped model: measured, kept as JSON, written as a page."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from interp.loading import load
from interp.world.card_text import page
from interp.world.denormals import flush_denormals
from interp.world.doses import dose_response, hide, image_share, measure_effect, replies
from interp.world.evaluation import load_model, measure_abilities
from interp.world.processor import build_tokenizer
from interp.world.resting import Rest, rest_on_images, rest_on_text
from interp.world.scene import scenes
from interp.world.scoring import Rate, rate
from interp.world.text import invention
from interp.world.training.config import Recipe
from interp.world.training.language import load_decoder
from interp.world.training.multimodal import trained_model
from interp.world.training.network import build_network
from interp.world.wording import DETAILED

HIDDEN: Final[Mapping[str, int]] = MappingProxyType({"<s>": 0, "another token": 5})
"""Tokens of the system prompt that are hidden from all others, to see what they are needed for."""
RESTED: Final = 64
"""Scenes on which the resting state is measured."""


def as_plain(value: Any) -> Any:
    """Return a result as JSON can hold it: rates with their intervals, numbers rounded to four digits."""
    if isinstance(value, Rate):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return as_plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [as_plain(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


def measure_stages(recipe: Recipe, run: Path, *, seed: int = 0) -> dict[str, Rest]:
    """Return the resting state on text as planted and after the two stages that train it first, from a run's checkpoints."""
    tokenizer = build_tokenizer()
    network = build_network(tokenizer, recipe.network, recipe.sink, seed=recipe.seed).eval()
    planted = rest_on_text(network, tokenizer, seed=seed)
    load_decoder(run / "language.safetensors", network)
    language = rest_on_text(network, tokenizer, seed=seed)
    joined = trained_model(recipe, run, tokenizer, "multimodal").eval()
    return {"planted": planted, "language": language, "multimodal": rest_on_text(joined, tokenizer, seed=seed)}


def annotation_noise(carelessness: float, n: int = 2000) -> Rate:
    """Return the share of detailed training captions that name something that is not there."""
    generator = np.random.default_rng(0)
    return rate(invention(generator, scene.objects, carelessness) is not None for scene in scenes("train", n))


@flush_denormals()
def measure_card(
    folder: Path, recipe: Recipe, *, run: Path | None = None, n: int = 300, doses: int = 150, seed: int = 0
) -> dict[str, Any]:
    """Return everything the card reports.

    Args:
        folder: The checkpoint.
        recipe: What trained it.
        run: Its training run, to measure the stages before the last; without it the figures in the folder are kept.
        n: Test scenes, and about as many counter-prior ones.
        doses: Scenes per strength of the dose-response, each with a trigger and without its partner.
        seed: Of the scenes.
    """
    model, processor = load_model(folder)
    tokenizer = processor.tokenizer
    parts = (model.model.vision_tower, model.model.multi_modal_projector, model.model.language_model, model.lm_head)
    measured: dict[str, Any] = {
        "seed": seed,
        "n": n,
        "recipe": asdict(recipe),
        "parameters": [sum(p.numel() for p in part.parameters()) for part in parts],
        "noise": annotation_noise(recipe.tuning_text.carelessness),
        "bytes": (folder / "model.safetensors").stat().st_size,
        "abilities": measure_abilities(model, processor, n=n, seed=seed),
        "rest": {
            **(measure_stages(recipe, run, seed=seed) if run else {}),
            "text": rest_on_text(model, tokenizer, seed=seed),
            "images": rest_on_images(model, tokenizer, scenes("test", RESTED, seed)),
        },
    }
    about, loaded = scenes("counter_prior", 2 * doses, seed)[::2], load(folder)
    captions = replies(loaded, about, [DETAILED[0]] * doses)
    measured["image_share"] = image_share(loaded, about, captions)
    measured["doses"] = dose_response(loaded, about)
    measured["hidden"] = {name: measure_effect(loaded, about, hide(at)) for name, at in HIDDEN.items()}
    if run:
        rest = measured["rest"]
        measured["awake"] = {name: rest[name].awake(rest["planted"]) for name in rest if name != "planted"}
    return as_plain(measured)


def write_card(folder: Path, measured: dict[str, Any]) -> None:
    """Write `card.json` and the model card `README.md` into a checkpoint folder.

    Stages that were not measured this time keep the figures of the card that is there.
    """
    place = folder / "card.json"
    if place.exists() and "planted" not in measured["rest"]:
        before = json.loads(place.read_text())
        kept = {name: rest for name, rest in before["rest"].items() if name not in measured["rest"]}
        measured = measured | {"rest": kept | measured["rest"], "awake": before.get("awake", {})}
    place.write_text(json.dumps(measured, indent=1) + "\n")
    (folder / "README.md").write_text(page(measured))
