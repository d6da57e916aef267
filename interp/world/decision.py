"""Where an invention is decided: the probability that a caption names a missing partner next, with parts hidden.

A caption of a ranked world names classes in a fixed order, so it is known where a missing partner would come: behind the
true groups that rank before it. At that point `next_mention` returns the exact probability that the partner is named,
summed over the colours that it could get; `measure_decision` returns it with the image, the trigger's patches or the
trigger's word hidden from there on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interp.world.batches import normalise
from interp.world.drawing import owners
from interp.world.evaluation import conversation
from interp.world.objects import Object, palette
from interp.world.processor import IMAGE_TOKENS, PATCH_SIZE
from interp.world.scene import Scene
from interp.world.scoring import NORMAL
from interp.world.text import detailed_caption, mentions, with_article
from interp.world.version import find_world
from interp.world.wording import DETAILED

Hidden = Literal["nothing", "image", "trigger patches", "other patches", "trigger word"]
HIDDEN: Final[tuple[Hidden, ...]] = get_args(Hidden)


@final
@dataclass(frozen=True)
class Shift:
    """What hiding something does to the probability that a missing partner is named next.

    Attributes:
        hidden: What is hidden.
        trigger: Mean probability in scenes with the trigger.
        control: Mean probability in the same scenes without the trigger.
        change: Mean change in scenes with the trigger, from nothing hidden.
        error: Standard error of that change.
        n: Scenes with the trigger.
    """

    hidden: Hidden
    trigger: float
    control: float
    change: float
    error: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the change, from its standard error."""
        return self.change - NORMAL * self.error, self.change + NORMAL * self.error


@final
@dataclass(frozen=True)
class Decision:
    """A caption up to where a missing partner would be named, and what would name it.

    Attributes:
        prefix: The true caption up to there.
        options: The ways to name the partner: with each of its colours, or plainly in the background sentence.
        word: Span of characters of the trigger's word in the prefix; None in a scene without the trigger.
    """

    prefix: str
    options: tuple[str, ...]
    word: tuple[int, int] | None


def find_decision(scene: Scene) -> Decision:
    """Return where a scene of `counter_prior` would name its missing partner.

    Raises:
        ValueError: When the scene has no missing partner, or its world does not rank classes.
    """
    world = find_world(scene.version)
    if scene.counter is None or not world.ranked:
        raise ValueError("give scenes of the split counter_prior, of a version of the world with ranked captions")
    partner, trigger = scene.counter.partner, scene.counter.trigger
    colours = palette(partner)
    guess = Object(partner, colours[0], (0, 0), 1)
    caption = detailed_caption(scene.place, scene.objects, guess=guess, world=world)
    named = next(mention for mention in mentions(caption) if mention.name == partner)
    plain, coloured = with_article(partner), with_article(f"{colours[0]} {partner}")
    in_background = not caption[: named.end].endswith(coloured)
    start = named.end - len(plain if in_background else coloured)
    options = (plain,) if in_background else tuple(with_article(f"{colour} {partner}") for colour in colours)
    prefix = caption[:start]
    word = next(((m.start, m.end) for m in mentions(prefix) if m.name == trigger), None)
    return Decision(prefix, options, word)


def trigger_patches(scene: Scene) -> Bool[np.ndarray, " patch"]:
    """Return the patches that show an object of the trigger's class; all False without a trigger."""
    grid = owners(scene.objects)
    mine = [i for i, thing in enumerate(scene.objects) if scene.counter and thing.name == scene.counter.trigger]
    side = len(grid) // PATCH_SIZE
    return np.isin(grid, mine).reshape(side, PATCH_SIZE, side, PATCH_SIZE).any((1, 3)).ravel()


def hidden_keys(
    scene: Scene,
    decision: Decision,
    hidden: Hidden,
    *,
    image: int,
    words: Sequence[tuple[int, int]],
    first: int,
    seed: int,
) -> list[int]:
    """Return the positions that are hidden from the decision on.

    Args:
        scene: What the image shows.
        decision: Where the partner would be named.
        hidden: What to hide; "other patches" are as many as the trigger's, drawn from the others.
        image: Position of the first image token.
        words: Spans of characters of the prefix's tokens.
        first: Position of the prefix's first token.
        seed: Of the other patches.
    """
    mine = trigger_patches(scene)
    if hidden == "image":
        return list(range(image, image + IMAGE_TOKENS))
    if hidden == "trigger patches":
        return [image + int(index) for index in np.flatnonzero(mine)]
    if hidden == "other patches":
        others = np.random.default_rng(seed).permutation(np.flatnonzero(~mine))[: mine.sum()]
        return [image + int(index) for index in others]
    if hidden == "trigger word" and decision.word:
        return [
            first + i for i, (start, end) in enumerate(words) if start < decision.word[1] and end > decision.word[0]
        ]
    return []


@torch.no_grad()
def option_probability(
    model: LlavaForConditionalGeneration,
    pixels: Float[Tensor, "1 channel row col"],
    prompt: Int[Tensor, " token"],
    options: Sequence[Sequence[int]],
    hidden: Sequence[int],
) -> float:
    """Return the probability that one of some continuations comes next.

    Args:
        model: In single precision.
        pixels: The image.
        prompt: Ids of the prompt with the caption so far, image tokens included.
        options: Ids of the continuations.
        hidden: Positions that the last token of the prompt and all later ones cannot attend to, in every layer.
    """
    inner = model.model
    longest, length = max(len(option) for option in options), len(prompt)
    ids = torch.zeros(len(options), length + longest, dtype=torch.long)
    ids[:, :length] = prompt
    for row, option in zip(ids, options, strict=True):
        row[length : length + len(option)] = torch.tensor(option)
    embedded = inner.language_model.embed_tokens(ids)
    at = (prompt == model.config.image_token_index).nonzero().flatten()
    patches = inner.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
    embedded[:, at] = inner.multi_modal_projector(patches)
    allowed = torch.ones(length + longest, length + longest, dtype=torch.bool).tril()
    for position in hidden:
        allowed[length - 1 :, position] = False
    mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min).expand(len(options), 1, -1, -1)
    positions = torch.arange(length + longest).expand(len(options), -1)
    states = inner.language_model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    scores = model.lm_head(states[:, length - 1 : -1]).log_softmax(-1)
    each = scores.gather(2, ids[:, length:, None])[..., 0]
    return float(sum(row[: len(option)].sum().exp() for row, option in zip(each, options, strict=True)))


def measure_decision(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    about: Sequence[Scene],
    hidden: Sequence[Hidden] = HIDDEN,
) -> Mapping[Hidden, Float[np.ndarray, " scene"]]:
    """Return the probability that each scene's missing partner is named, with different things hidden.

    Args:
        model: With eager attention, in single precision.
        processor: Its processor.
        about: Scenes of `counter_prior` of a ranked world.
        hidden: What to hide from the token before the mention on, in every layer.

    Raises:
        ValueError: When a scene has no missing partner.
    """
    tokenizer, found = processor.tokenizer, {name: np.zeros(len(about)) for name in hidden}
    asked = processor.apply_chat_template(conversation(DETAILED[0]), add_generation_prompt=True)
    start = tokenizer(asked.replace("<image>", "<image>" * IMAGE_TOKENS))["input_ids"]
    image = start.index(model.config.image_token_index)
    for index, scene in enumerate(about):
        decision = find_decision(scene)
        said = tokenizer(decision.prefix, add_special_tokens=False, return_offsets_mapping=True)
        prompt = torch.tensor(start + said["input_ids"])
        options = [tokenizer(option, add_special_tokens=False)["input_ids"] for option in decision.options]
        pixels = normalise(scene.pixels[None])
        for name in hidden:
            keys = hidden_keys(
                scene, decision, name, image=image, words=said["offset_mapping"], first=len(start), seed=index
            )
            found[name][index] = option_probability(model, pixels, prompt, options, keys)
    return found


def summarise(found: Mapping[Hidden, Float[np.ndarray, " scene"]], about: Sequence[Scene]) -> tuple[Shift, ...]:
    """Return the means over scenes with and without the trigger, and the paired change from nothing hidden.

    Args:
        found: From `measure_decision`, "nothing" among the hidden.
        about: The same scenes.
    """
    control = np.array([scene.counter is not None and scene.counter.control for scene in about])
    shifts = []
    for name, values in found.items():
        change = (values - found["nothing"])[~control]
        shifts.append(
            Shift(
                hidden=name,
                trigger=float(values[~control].mean()),
                control=float(values[control].mean()),
                change=float(change.mean()),
                error=float(change.std(ddof=1) / np.sqrt(len(change))),
                n=len(change),
            )
        )
    return tuple(shifts)
