"""CLVA: deep layers are held to the image regions that a middle layer found, and off those the first layer is drawn to."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.tokens import EMITTING, Segment, Tokens, tokens
from interp.interventions.attention import Scores, share
from interp.interventions.base import Here, Intervention
from interp.interventions.method import Method
from interp.taps.points import AttentionTaps

READING = (Segment.USER | EMITTING) - Segment.RESPONSE
"""The prompt's rows after the image, which tell heads that look at it from those that do not."""
IMAGE = tokens(Segment.IMAGE)


@final
@dataclass(frozen=True)
class Clva(Method):
    """Cross-layer visual anchors.

    In a middle layer, the heads that look at the image most (over the prompt's rows after the image: mean share above μ + spread · σ
    of the layer's heads) make a map of it in every row; in the first layer, those that look least (below μ - spread · σ). Image tokens
    whose z-score on a row's map exceeds `tau` are its positive and negative anchors. In every layer behind the middle one that row's
    attention to an image token is multiplied by 1 + positive · (a positive anchor) - negative · (a negative one), and the row
    divided by its sum. It all happens in the same forward pass. With no head beyond the bound, the single most or least
    sensitive one is taken.

    Args:
        positive: α; 0 is neutral together with `negative=0`.
        negative: β, at most 1.
        tau: the z-score of an anchor.
        spread: how many standard deviations set a head apart.
        rows: `emitting` rows use their own anchors; `text` also re-anchors the prompt's rows after the image, with those of its
            last row.
        middle: the layer of the positive anchors, L//2 - 2 by default.
        part: `decoder`, or `cross` for a Q-Former's cross-attention to the patches, where every row is a query of the Q-Former
            and a head looks at the image when it looks at patches rather than at the class token; by default the Q-Former
            where there is one, as the paper does.

    References: CLVA (2026), Eq. 1-3, 8-11 and B.1. Differs: anchors are row-local and head groups fixed by the prompt, so that cached
    decoding and one pass agree (methods, decision 8); affected layers, index base and the Q-Former's head groups are this
    project's reading, as no code is public.
    """

    positive: float = 14.0
    negative: float = 0.9
    tau: float = 2.0
    spread: float = 1.0
    rows: Literal["emitting", "text"] = "emitting"
    middle: int | None = None
    part: Literal["decoder", "cross"] | None = None

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: factors that make a probability negative, unknown rows or part, or rows of a Q-Former.
        """
        if self.positive < 0 or not 0 <= self.negative <= 1:
            raise ValueError(f"positive is at least 0 and negative in [0, 1], got {self.positive} and {self.negative}")
        if self.rows not in ("emitting", "text") or self.part not in (None, "decoder", "cross"):
            raise ValueError(
                f"rows is 'emitting' or 'text' and part 'decoder' or 'cross', got {self.rows!r} and {self.part!r}"
            )
        if self.part == "cross" and self.rows == "text":
            raise ValueError("rows='text' is of the decoder: every row of a Q-Former is one of its queries")

    @property
    def needs_image(self) -> bool:
        """Whether this acts on an image: yes."""
        return True

    def refusal(self, model: Any) -> str | None:
        """Say that there is no image or no Q-Former, or that the layers do not suffice."""
        if not model.family.image_token:
            return "it anchors attention to an image, and this is a language model"
        part, layers = self._part(model), self._layers(model)
        if not layers:
            return "it has no Q-Former, whose cross-attention part='cross' edits; leave part out for the decoder"
        if not 0 <= self._middle(layers) < layers - 1:
            name = "decoder" if part == "decoder" else "Q-Former's cross-attention"
            return f"middle={self._middle(layers)} leaves no layer behind it: the {name} has layers 0..{layers - 1}"
        return None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that reads the anchors and applies them."""
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
    """CLVA's one intervention: reads anchors in the first and the middle layer, and applies them behind it. See `Clva`.

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
    keys: Tokens = IMAGE
    site: ClassVar[str] = "pattern"

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the pattern as it is where anchors are read, re-anchored behind."""
        known = here.state.setdefault((self, "anchors"), {})
        image = self._image(value, here)
        if here.layer == 0:
            known["negative"] = self._anchors(value, here, image, known.setdefault("least", {}), most=False)
        if here.layer == self.middle:
            known["positive"] = self._anchors(value, here, image, known.setdefault("most", {}), most=True)
        if here.layer <= self.middle:
            return value
        gain, touched = here.once(self, make=lambda: self._gain(known, here))
        changed = value.float() * gain
        total = changed.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.where(touched, (changed / total).to(value.dtype), value)

    def _gain(self, known: dict[str, Any], here: Here) -> tuple[Tensor, Tensor]:
        """Return what the attention of every row to every key is multiplied by, and in which rows that is not always 1."""
        gain = 1 + self.positive * self._of(known["positive"], here) - self.negative * self._of(known["negative"], here)
        return gain, (gain != 1).any(-1, keepdim=True) & self._rows(here, here.queries if here.roles else None)

    def _image(self, value: Tensor, here: Here) -> Tensor:
        """Return which keys are image tokens; a Q-Former sees patches behind one class token."""
        if here.roles is not None:
            return here.keys(self.keys)
        return (torch.arange(value.shape[-1], device=value.device) > 0).view(1, 1, 1, -1)

    def _rows(self, here: Here, queries: Any) -> Tensor | bool:
        return True if queries is None else queries(Segment.USER | EMITTING if self.text else EMITTING)

    def _anchors(
        self, value: Tensor, here: Here, image: Tensor, fixed: dict[str, Tensor], *, most: bool
    ) -> dict[str, Tensor]:
        """Return which keys are anchors of every row, and the rows' positions."""
        if "heads" not in fixed or here.roles is None:
            fixed["heads"] = self._group(share(value, image), here, most)
            weights = fixed["heads"].float()[:, :, None, None]
            fixed["weights"] = weights / weights.sum(1, keepdim=True)
        seen = (value.float() * fixed["weights"]).sum(1, keepdim=True) * image
        count = image.sum(-1, keepdim=True).clamp_min(1)
        away = (seen - seen.sum(-1, keepdim=True) / count) * image
        deviation = torch.linalg.vector_norm(away, dim=-1, keepdim=True) / count.sqrt()
        return {"mask": (away > self.tau * (deviation + 1e-9)) & image, "rows": here.rows}

    def _group(self, looks: Tensor, here: Here, most: bool) -> Tensor:
        """Return (batch, head): the heads that look at the image most, or least, over the prompt's rows behind it."""
        rows = torch.ones_like(looks[:, :1]) if here.roles is None else here.queries(READING).float()
        mean = (looks * rows).sum((2, 3)) / rows.sum((2, 3)).clamp_min(1)
        sign = 1 if most else -1
        centre, spread = mean.mean(-1, keepdim=True), mean.std(-1, keepdim=True, correction=0)
        chosen = sign * (mean - centre) > self.spread * spread
        best = torch.nn.functional.one_hot((sign * mean).argmax(-1), mean.shape[-1]).bool()
        return torch.where(chosen.any(-1, keepdim=True), chosen, best)

    def _of(self, anchors: dict[str, Tensor], here: Here) -> Tensor:
        """Return the anchors (batch, 1, query, key) of the rows that are here now."""
        mask, rows = anchors["mask"], anchors["rows"].to(here.rows.device)
        if rows is here.rows and not self.text:
            return mask.float()
        index = torch.searchsorted(rows, here.rows).clamp_max(len(rows) - 1).to(mask.device)
        index = index.expand(mask.shape[0], -1)
        if self.text and here.roles is not None and here.step == 0:
            reading = here.queries(READING)[:, 0, :, 0]
            last = (reading * torch.arange(1, reading.shape[1] + 1, device=mask.device)).argmax(-1, keepdim=True)
            index = torch.where(reading, index.gather(1, last), index)
        return mask.gather(2, index[:, None, :, None].expand(-1, -1, -1, mask.shape[-1])).float()
