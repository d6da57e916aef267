"""CLVA: directs deep layers to the image regions that a middle layer attends to, and away from those of the first layer."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.tokens import EMITTING, QUESTION, Segment, Tokens, tokens
from interp.interventions.attention import Scores, attention_share
from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.method import Method
from interp.taps.points import AttentionTaps

_IMAGE = tokens(Segment.IMAGE)


@final
@dataclass(frozen=True)
class Clva(Method):
    """Cross-layer visual anchors.

    In a middle layer, the heads that attend to the image most (mean share over the prompt's rows after the image above μ + spread · σ
    of the layer's heads) give a map of the image in every row; in the first layer, those that attend to it least (below
    μ - spread · σ) do. Image tokens whose z-score on a row's map exceeds `tau` are the row's positive and negative visual anchors.
    In every layer after the middle one, the row's attention to an image token is multiplied by 1 + positive · (a positive visual
    anchor) - negative · (a negative one), and the row is divided by its sum. All of this happens in the same forward pass. If no head
    exceeds the bound, the single most or least sensitive head is used.

    Args:
        positive: α; 0 is neutral together with `negative=0`.
        negative: β, at most 1.
        tau: the z-score above which an image token is a visual anchor.
        spread: how many standard deviations a head must differ from the mean.
        rows: `emitting` rows use their own visual anchors; `text` also acts on the prompt's rows after the image, with the visual
            anchors of its last row.
        middle: the layer of the positive visual anchors, L//2 - 2 by default.
        part: `decoder`, or `cross` for a Q-Former's cross-attention to the patches, where every row is a query of the Q-Former
            and a head attends to the image when it attends to patches rather than to the class token; by default the Q-Former
            where there is one, as in the paper.

    References: CLVA (2026), Eq. 1-3, 8-11 and B.1. Differs: visual anchors are row-local and head groups are fixed by the prompt, so
    that cached decoding and one pass agree (methods, decision 8); affected layers, index base and the Q-Former's head groups are
    this project's interpretation, as no code is public.
    """

    positive: float = 14.0
    negative: float = 0.9
    tau: float = 2.0
    spread: float = 1.0
    rows: Literal["emitting", "text"] = "emitting"
    middle: int | None = None
    part: Literal["decoder", "cross"] | None = None
    on_image: ClassVar[str] = "it re-anchors attention on an image"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: factors that make a probability negative, unknown rows or part, or rows='text' with a Q-Former.
        """
        if self.positive < 0 or not 0 <= self.negative <= 1:
            raise ValueError(f"positive is at least 0 and negative in [0, 1], got {self.positive} and {self.negative}")
        if self.rows not in ("emitting", "text") or self.part not in (None, "decoder", "cross"):
            raise ValueError(
                f"rows is 'emitting' or 'text' and part 'decoder' or 'cross', got {self.rows!r} and {self.part!r}"
            )
        if self.part == "cross" and self.rows == "text":
            raise ValueError("rows='text' applies to the decoder only: every row of a Q-Former is one of its queries")

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no Q-Former, or no layer after the middle one."""
        part, layers = self._part(model), self._layers(model)
        if not layers:
            return "it has no Q-Former, whose cross-attention part='cross' acts on; leave part out for the decoder"
        if not 0 <= self._middle(layers) < layers - 1:
            name = "decoder" if part == "decoder" else "Q-Former's cross-attention"
            return f"middle={self._middle(layers)} leaves no layer after it: the {name} has layers 0..{layers - 1}"
        return None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that reads the visual anchors and applies them."""
        layers, part = self._layers(model), self._part(model)
        factors = (self.positive, self.negative, self.tau, self.spread)
        middle = self._middle(layers)
        return (Reanchor(*factors, middle, (0, *range(max(middle, 1), layers)), part, self.rows == "text"),)

    def _part(self, model: Any) -> Literal["decoder", "cross"]:
        return self.part or ("cross" if cross_layers(model) else "decoder")

    def _layers(self, model: Any) -> int:
        return model.layers if self._part(model) == "decoder" else cross_layers(model)

    def _middle(self, layers: int) -> int:
        return max(layers // 2 - 2, 0) if self.middle is None else self.middle


def cross_layers(model: Any) -> int:
    """Return how many cross-attention layers a model's Q-Former has; 0 where there is none."""
    return sum(isinstance(m, AttentionTaps) and m.part == "cross" for m in model.module.modules())


@final
@dataclass(frozen=True)
class Reanchor(Intervention):
    """The intervention of CLVA: reads visual anchors in the first and the middle layer, and applies them in later layers. See `Clva`.

    Neutral at `positive=0` and `negative=0`.
    """

    positive: float
    negative: float
    tau: float
    spread: float
    middle: int
    layers: tuple[int, ...]
    part: str = "decoder"  # type: ignore[misc]
    text: bool = False
    queries: Any = Segment.USER | EMITTING
    keys: Tokens = _IMAGE
    site: ClassVar[str] = "pattern"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the pattern: unchanged where visual anchors are read, re-weighted in later layers."""
        known = here.state.setdefault(self, {})
        image = self._image(value, here)
        if here.layer == 0:
            known["negative"] = self._anchors(value, here, image, known.setdefault("least", {}), most=False)
        if here.layer == self.middle:
            known["positive"] = self._anchors(value, here, image, known.setdefault("most", {}), most=True)
        if here.layer <= self.middle:
            return value
        gain, touched = here.once(self._gain)
        changed = value.float() * gain
        total = changed.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.where(touched, (changed / total).to(value.dtype), value)

    def _gain(self, here: Here) -> tuple[Tensor, Tensor]:
        """Return the factor of every row and key, and the rows in which it is not 1 everywhere."""
        known = here.state[self]
        gain = 1 + self.positive * self._of(known["positive"], here) - self.negative * self._of(known["negative"], here)
        return gain, (gain != 1).any(-1, keepdim=True) & self._rows(here, here.queries if here.roles else None)

    def _image(self, value: Tensor, here: Here) -> Tensor:
        """Return which keys are image tokens; a Q-Former's keys are one class token, then the patches."""
        if here.roles is not None:
            return here.keys(self.keys)
        return (torch.arange(value.shape[-1], device=value.device) > 0).view(1, 1, 1, -1)

    def _rows(self, here: Here, queries: Any) -> Tensor | bool:
        return True if queries is None else queries(Segment.USER | EMITTING if self.text else EMITTING)

    def _anchors(
        self, value: Tensor, here: Here, image: Tensor, fixed: dict[str, Tensor], *, most: bool
    ) -> dict[str, Tensor]:
        """Return the visual anchors (batch, 1, query, key) of the rows, and the rows' positions."""
        if "heads" not in fixed or here.roles is None:
            fixed["heads"] = self._group(attention_share(value, image), here, most)
            weights = fixed["heads"].float()[:, :, None, None]
            fixed["weights"] = weights / weights.sum(1, keepdim=True)
        seen = (value.float() * fixed["weights"]).sum(1, keepdim=True) * image
        count = image.sum(-1, keepdim=True).clamp_min(1)
        away = (seen - seen.sum(-1, keepdim=True) / count) * image
        deviation = torch.linalg.vector_norm(away, dim=-1, keepdim=True) / count.sqrt()
        return {"mask": (away > self.tau * (deviation + 1e-9)) & image, "rows": here.rows}

    def _group(self, shares: Tensor, here: Here, most: bool) -> Tensor:
        """Return (batch, head): the heads that attend to the image most, or least, over the prompt's rows after it."""
        rows = torch.ones_like(shares[:, :1]) if here.roles is None else here.queries(QUESTION).float()
        mean = (shares * rows).sum((2, 3)) / rows.sum((2, 3)).clamp_min(1)
        sign = 1 if most else -1
        centre, spread = mean.mean(-1, keepdim=True), mean.std(-1, keepdim=True, correction=0)
        chosen = sign * (mean - centre) > self.spread * spread
        best = torch.nn.functional.one_hot((sign * mean).argmax(-1), mean.shape[-1]).bool()
        return torch.where(chosen.any(-1, keepdim=True), chosen, best)

    def _of(self, anchors: dict[str, Tensor], here: Here) -> Tensor:
        """Return the visual anchors (batch, 1, query, key) of the rows of the current layer."""
        # Layers may compute different rows of the same pass, so rows are matched by position.
        mask, rows = anchors["mask"], anchors["rows"].to(here.rows.device)
        if rows is here.rows and not self.text:
            return mask.float()
        index = torch.searchsorted(rows, here.rows).clamp_max(len(rows) - 1).to(mask.device)
        index = index.expand(mask.shape[0], -1)
        if self.text and here.roles is not None and here.step == 0:
            question = here.queries(QUESTION)[:, 0, :, 0]
            last = (question * torch.arange(1, question.shape[1] + 1, device=mask.device)).argmax(-1, keepdim=True)
            index = torch.where(question, index.gather(1, last), index)
        return mask.gather(2, index[:, None, :, None].expand(-1, -1, -1, mask.shape[-1])).float()
