"""Information flow by layer: attention knocked out between segments, and activations patched between two prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp.data.prompt import Prompt
from interp.data.result import Result
from interp.data.tokens import EVERY, LAST, Segment, Selector, tokens
from interp.experiments.effect import Quantity
from interp.interventions.attention import MaskAttention
from interp.interventions.stream import ReplaceFrom
from interp.models.model import Model
from interp.passes.capture import capture

FLOWS: tuple[tuple[str, Selector, Selector], ...] = (
    ("image → question", Segment.USER, Segment.IMAGE),
    ("image → last", LAST, Segment.IMAGE),
    ("question → last", LAST, Segment.USER - LAST),
    ("system → last", LAST, Segment.SYSTEM),
)
"""Default flows to cut: name, query rows and keys."""

PATCH_PLACES: tuple[tuple[str, Selector], ...] = (
    ("image", Segment.IMAGE),
    ("question", Segment.USER - LAST),
    ("last", LAST),
    ("everything", EVERY),
)
"""Default patches: name and tokens."""


@final
@dataclass(frozen=True)
class LayerSweep(Result):
    """A quantity under an intervention at each layer, for several candidate interventions.

    `under` is its value under the intervention, `without` its value without; the difference is the effect.
    """

    under: Float[Tensor, "candidate layer"]
    without: float
    candidates: tuple[str, ...]
    layers: tuple[int, ...]
    quantity: str

    @classmethod
    def summary_field(cls) -> str:
        """Return `under`."""
        return "under"

    @property
    def labels(self) -> dict[str, list]:
        """The candidates' names and the layers."""
        return {"candidate": list(self.candidates), "layer": list(self.layers)}

    @property
    def effect(self) -> Float[Tensor, "candidate layer"]:
        """The value under the intervention minus the value without."""
        return self.under - self.without


def attention_knockout(
    model: Model,
    prompt: Prompt,
    *,
    of: Quantity,
    flows: Sequence[tuple[str, Selector, Selector]] = FLOWS,
    window: int = 3,
    progress: bool = True,
) -> LayerSweep:
    """Cut the attention between segments in a window of layers around each layer, and measure a quantity.

    Args:
        model: the model.
        prompt: the conversation.
        of: the quantity, such as `Probability("Yes")`.
        flows: name, query rows and keys of every cut.
        window: the number of layers that are cut together.
        progress: whether to show a bar.

    Raises:
        ValueError: a window below 1, or a flow whose rows or keys take no token of this prompt.

    References: Geva et al., Dissecting Recall of Factual Associations (2023), attention knockout. Differs: no.
    """
    if window < 1:
        raise ValueError(f"a window is at least one layer, got {window}")
    for name, rows, keys in flows:
        empty = [str(tokens(s)) for s in (rows, keys) if not prompt.layout.positions(s)]
        if empty:
            raise ValueError(
                f"the flow {name!r} selects no token of this prompt ({', '.join(empty)}); leave it out of flows"
            )
    under = torch.empty(len(flows), model.layers)
    for i, layer in tqdm(
        [(i, k) for i in range(len(flows)) for k in range(model.layers)], desc="knockout", disable=not progress
    ):
        _, rows, keys = flows[i]
        near = tuple(k for k in range(layer - window // 2, layer - window // 2 + window) if 0 <= k < model.layers)
        under[i, layer] = of(model, prompt, (MaskAttention(keys, queries=rows, layers=near),))
    return LayerSweep(under, of(model, prompt, ()), tuple(f[0] for f in flows), tuple(range(model.layers)), str(of))


def patch(
    model: Model,
    prompt: Prompt,
    source: Prompt,
    *,
    of: Quantity,
    at: Sequence[tuple[str, Selector]] = PATCH_PLACES,
    site: str = "resid_post",
    progress: bool = True,
) -> LayerSweep:
    """Patch activations of another prompt into a prompt, layer by layer at some tokens, and measure a quantity.

    With the same question about two images this localises the layers and tokens in which visual information decides the answer.

    Args:
        model: the model.
        prompt: the conversation that is patched.
        source: the conversation that the activations come from, of the same length.
        of: the quantity.
        at: name and tokens of every patch.
        site: the site that is patched: one of the residual stream, `q` or `z`.
        progress: whether to show a bar.

    Raises:
        ValueError: conversations of different lengths.
    """
    if len(prompt) != len(source):
        raise ValueError(f"patching needs conversations of the same length, got {len(prompt)} and {len(source)} tokens")
    seen = capture(model, source, want={site})
    under = torch.empty(len(at), model.layers)
    for i, layer in tqdm(
        [(i, k) for i in range(len(at)) for k in range(model.layers)], desc="patch", disable=not progress
    ):
        under[i, layer] = of(model, prompt, (ReplaceFrom(seen, queries=at[i][1], at=site, layers=(layer,)),))
    return LayerSweep(under, of(model, prompt, ()), tuple(n for n, _ in at), tuple(range(model.layers)), str(of))
