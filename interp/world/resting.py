"""How much the decoder rests on `<s>`, whether it needs to, and how large `<s>` grows: measured at every stage."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPast

from interp.world.batches import IGNORED, RowMaker, normalise, text_batch
from interp.world.processor import IMAGE_TOKENS
from interp.world.scene import Scene
from interp.world.training.config import TextConfig

HELD_OUT = 10**6
"""Text rows from this step on are never trained on."""
SETTLED = 24
"""Text rows are measured from this position on: before it there is little else to attend to than `<s>`."""


@final
@dataclass(frozen=True)
class Rest:
    """The resting state of a decoder on some rows.

    Attributes:
        start: Share of the attention on `<s>`, mean over the measured rows.
        image: Share on the image tokens, summed; zeros for text.
        loss: Cross-entropy of the measured tokens, in nats.
        loss_without_start: The same with `<s>` hidden from every other token.
        massive: Per depth from 1 (0 is the embedding, whose scale says nothing): the largest activation of `<s>`
            over the median of all, median over samples.
        dim: Per depth, the dimension of the largest activation at `<s>`, most frequent over samples.
        largest: Share of samples in which the largest activation of all sits at `<s>`, per depth from 1.
    """

    start: Float[np.ndarray, "layer head"]
    image: Float[np.ndarray, "layer head"]
    loss: float
    loss_without_start: float
    massive: Float[np.ndarray, " depth"]
    dim: Int[np.ndarray, " depth"]
    largest: Float[np.ndarray, " depth"]

    def awake(self, before: "Rest") -> list[tuple[int, int]]:
        """Return the (layer, head) that rested on `<s>` before and now do so less than half as much."""
        woke = (before.start > 0.3) & (self.start < before.start / 2)
        return [(int(layer), int(head)) for layer, head in zip(*np.nonzero(woke), strict=True)]


@torch.no_grad()
def rest(
    model: LlavaForConditionalGeneration,
    embedded: Float[Tensor, "sample token dim"],
    targets: Int[Tensor, "sample token"],
    allowed: Bool[Tensor, "sample query key"],
    positions: Int[Tensor, "sample token"],
    image: slice,
) -> Rest:
    """Return the resting state on embedded rows whose first token is `<s>`; rows with a target are measured."""
    decoder, measured = model.model.language_model, targets != IGNORED

    def run(visible: Tensor, *, details: bool) -> tuple[float, BaseModelOutputWithPast]:
        mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]
        out = decoder(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            output_attentions=details,
            output_hidden_states=details,
        )
        logits = model.lm_head(out.last_hidden_state)[measured]
        return F.cross_entropy(logits, targets[measured]).item(), out

    loss, out = run(allowed, details=True)
    hidden = allowed.clone()
    hidden[:, 1:, 0] = False
    patterns = [pattern.transpose(1, 2)[measured] for pattern in out.attentions]
    sizes = [state.abs() for state in out.hidden_states[1:]]
    medians = [size.flatten(1).median(1).values for size in sizes]
    return Rest(
        start=np.stack([pattern[..., 0].mean(0).numpy() for pattern in patterns]),
        image=np.stack([pattern[..., image].sum(-1).mean(0).numpy() for pattern in patterns]),
        loss=loss,
        loss_without_start=run(hidden, details=False)[0],
        massive=np.array([(s[:, 0].amax(1) / m).median().item() for s, m in zip(sizes, medians, strict=True)]),
        dim=np.array([s[:, 0].argmax(1).mode().values.item() for s in sizes]),
        largest=np.array([(s[:, 0].amax(1) >= s.flatten(1).amax(1)).float().mean().item() for s in sizes]),
    )


def rest_on_text(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, *, n: int = 32, seed: int = 0
) -> Rest:
    """Return the resting state on held-out rows of text."""
    ids = text_batch(HELD_OUT, TextConfig(), tokenizer, batch=n, seed=seed)
    given, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[:, :SETTLED] = IGNORED
    targets[targets == tokenizer.pad_token_id] = IGNORED
    length = given.shape[1]
    with torch.no_grad():
        embedded = model.model.language_model.embed_tokens(given)
    allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(n, length, length)
    return rest(model, embedded, targets, allowed, torch.arange(length).expand(n, length), slice(0, 0))


def rest_on_images(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, about: list[Scene]
) -> Rest:
    """Return the resting state in the answers about held-out scenes, the usual system prompt before them."""
    maker = RowMaker(tokenizer, TextConfig(text_rows=0.0, other_systems=0.0, carelessness=0.0))
    generators = [np.random.default_rng((9, index)) for index in range(len(about))]
    rows = maker.rows(generators, about)
    window = slice(maker.image_start, maker.image_start + IMAGE_TOKENS)
    with torch.no_grad():
        pixels = normalise(np.stack([scene.pixels for scene in about]))
        patches = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        embedded = model.model.language_model.embed_tokens(rows.ids).clone()
        embedded[:, window] = model.model.multi_modal_projector(patches)
    return rest(model, embedded, rows.targets, rows.allowed, rows.positions, window)
