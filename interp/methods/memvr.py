"""MemVR: where a middle layer is uncertain about the next token, mixes the image into the output of the next MLP."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.tokens import EMITTING, EVERY, Segment, Selector
from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.method import Method, scaled_layers


@final
@dataclass(frozen=True)
class Memvr(Method):
    """Memory-space visual retracing.

    After each of several middle layers, the residual stream of a row is read through the final norm and the output head; its
    uncertainty is the entropy of the ten most likely tokens, renormalised, divided by ln 10. The first time it exceeds `threshold` in a
    row, the output of the next layer's MLP becomes (1 - ratio) · FFN(x) + ratio · c · x VᵀV in that row: x is the input of the MLP,
    V the image tokens as they enter the first layer, and c = mean|FFN(x)| / mean|x VᵀV| gives both terms the same size.

    `paper` decides for every emitting row separately, with c computed from that row. `release` follows the public code: the last row
    of a pass decides for all of its rows, including the prompt's, with c computed from all of them; then decoding with a cache and
    one pass over the reply differ.

    Args:
        ratio: how much of the MLP's output is replaced; 0 is neutral. The release has 0.12 (LLaVA; MME, MM-Vet), 0.31 (LLaVA,
            CHAIR) and 0.28 (Qwen-VL, GLM-4V).
        threshold: the uncertainty, in [0, 1], above which the image is mixed in.
        layers: the layers after which the stream is read; by default 6..15 of 32, scaled to the model's depth. The next layer is
            changed.
        variant: the paper's method, row by row, or the released code's.

    References: Zou et al., Look twice before you answer (ICML 2025), and its released code (1zhou-Wang/MemVR). Differs: `paper` is
    a row-local interpretation, which agrees with cached decoding. The release scales V twice by the sizes of the MLP's weights; c
    cancels this, so it is left out.
    """

    ratio: float = 0.12
    threshold: float = 0.75
    layers: tuple[int, ...] | None = None
    variant: Literal["paper", "release"] = "paper"
    on_image: ClassVar[str] = "it mixes the image into the output of MLPs"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a ratio or threshold outside [0, 1], no layer, or an unknown variant.
        """
        if not 0 <= self.ratio <= 1 or not 0 <= self.threshold <= 1:
            raise ValueError(f"ratio and threshold lie in [0, 1], got {self.ratio} and {self.threshold}")
        if self.variant not in ("paper", "release"):
            raise ValueError(f"variant is 'paper' or 'release', got {self.variant!r}")
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves nothing to read; leave it out for the published ones")

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no next layer, or no norm of the MLP alone."""
        if model.family.resid_mid is None:
            return "its attention and MLP run in parallel, so there is no norm that only the MLP reads through"
        outside = [i for i in self._layers(model) if not 0 <= i < model.layers - 1]
        return f"layers {outside} have no layer after them: it has layers 0..{model.layers - 1}" if outside else None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that reads the uncertainty and mixes the image in."""
        norms = tuple(block.get_submodule(model.family.resid_mid).forward for block in model.blocks)
        row_local = self.variant == "paper"
        return (MixInImage(self.ratio, self.threshold, self._layers(model), row_local, model.unembed, norms),)

    def _layers(self, model: Any) -> tuple[int, ...]:
        return scaled_layers(6, 15, model.layers) if self.layers is None else tuple(self.layers)


@final
@dataclass(frozen=True, eq=False)
class MixInImage(Intervention):
    """The intervention of MemVR: reads the image, the uncertainty and the MLP's input, and changes the MLP's output. See `Memvr`.

    Neutral at `ratio=0`.
    """

    ratio: float
    threshold: float
    after: tuple[int, ...]
    row_local: bool
    unembed: Callable[[Tensor], Tensor] = field(repr=False)
    norms: tuple[Callable[[Tensor], Tensor], ...] = field(repr=False)
    queries: Selector = EVERY
    site: ClassVar[str] = "mlp_out"

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: it reads the first and some later depths, and changes MLP outputs."""
        if site == "resid_pre":
            return part == self.part and layer == 0
        return part == self.part and (
            (site == "resid_post" and layer in self.after)
            or (site in ("resid_mid", self.site) and layer - 1 in self.after)
        )

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the stream unchanged, and the MLP's output with the image mixed in where a row is uncertain."""
        known = here.state.setdefault(self, {})
        if here.site == "resid_pre":
            if value.shape[1] > 1:  # prefill: the image is in the prompt, and later steps reuse it
                known["image"] = value.float() * here.queries(Segment.IMAGE)
            known["done"] = known["due"] = torch.zeros_like(value[..., :1], dtype=torch.bool)
        elif here.site == "resid_post":
            known["due"] = self.uncertain(value, here) & ~known["done"]
            known["done"] = known["done"] | known["due"]
        elif here.site == "resid_mid":
            known["read"] = self.norms[here.layer](value)
        else:
            return torch.where(known["due"], self.mix(value, here, known), value)
        return value

    def uncertain(self, stream: Tensor, here: Here) -> Tensor:
        """Return the rows (batch, token, 1) in which the next token is uncertain."""
        rows, last = here.queries(EMITTING), torch.tensor([stream.shape[1] - 1])
        # The output head is large, so only rows that can be changed are read through it.
        at = rows.any(0).flatten().cpu().nonzero()[:, 0] if self.row_local and len(here.rows) > 1 else last
        at = at.to(stream.device)
        top = self.unembed(stream[:, at]).float().topk(10, -1).values.log_softmax(-1)
        due = -(top.exp() * top).sum(-1, keepdim=True) / math.log(10) > self.threshold
        if self.row_local:
            return rows & torch.zeros_like(stream[..., :1], dtype=torch.bool).index_copy(1, at, due)
        return here.queries(EVERY) & due

    def mix(self, value: Tensor, here: Here, known: dict[str, Tensor]) -> Tensor:
        """Return the MLP's output with the image mixed in, in every row."""
        plain, image = value.float(), known["image"]
        visual = known["read"].float() @ image.mT @ image
        sizes = [self._size(x, here) for x in (plain, visual)]
        mixed = (1 - self.ratio) * plain + self.ratio * (sizes[0] / sizes[1].clamp_min(1e-20)) * visual
        return mixed.to(value.dtype)

    def _size(self, value: Tensor, here: Here) -> Tensor:
        """Return the mean absolute entry of each row, or of all rows of each conversation."""
        size = value.abs().mean(-1, keepdim=True)
        if self.row_local:
            return size
        real = here.queries(EVERY)
        return (size * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
