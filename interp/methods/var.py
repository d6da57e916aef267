"""VAR: moves attention from sinks to the other image tokens, in heads that attend to the image."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from interp.data.tokens import AFTER_IMAGE, PROMPT, Segment, Selector
from interp.interventions.attention import attention_share
from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.method import Method


@final
@dataclass(frozen=True)
class Var(Method):
    """Visual attention redistribution.

    A token of the prompt is a sink of a layer when the stream h that enters it has |h_d| / rms(h) > tau in a sink dimension d.
    Sink dimensions are those in which a text token of the prompt exceeds tau, determined in the same pass for each layer and prompt;
    image tokens that are massive in the same dimensions are visual sinks. In the rows after the image, a head that gives the
    image at least `least` of its attention, and visual sinks at most `most` of that, keeps the share `keep` of its attention to sinks;
    the remainder goes to the image tokens that are not sinks, in proportion to their attention. Row sums do not change. The sinks are
    fixed at prefill.

    Args:
        keep: p, the share that sinks keep; 1 is neutral.
        most: ρ, the largest share of visual attention on visual sinks that a head may have.
        least: the least share of attention on the image.
        tau: the bound on an entry of the stream, as a multiple of its root mean square; by default 20, and for a width below 4096
            20 · √(width / 4096), because no entry exceeds √width times the root mean square.
        dims: the sink dimensions, instead of those determined from the prompt.
        layers: the layers; by default all from the third on.

    References: Kang et al., See what you are told: visual attention sink (ICLR 2025), and its released code (seilk/VisAttnSink).
    Differs: the release lists dimensions for each language model, and for the 13B one uses those of 7B; here they are determined from
    the prompt. The release's option to leave out the last layer has no effect, so it is omitted.
    """

    keep: float = 0.6
    most: float = 0.5
    least: float = 0.2
    tau: float | None = None
    dims: tuple[int, ...] | None = None
    layers: tuple[int, ...] | None = None
    on_image: ClassVar[str] = "it gives attention to image tokens"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a share outside [0, 1], a tau that is not positive, or no dimension.
        """
        if not all(0 <= x <= 1 for x in (self.keep, self.most, self.least)):
            raise ValueError(
                f"keep, most and least are shares in [0, 1], got {self.keep}, {self.most} and {self.least}"
            )
        if self.tau is not None and self.tau <= 0:
            raise ValueError(f"tau is above 0, got {self.tau}")
        if self.dims is not None and not self.dims:
            raise ValueError("dims=() leaves no sink dimension; leave it out to determine them from the prompt")

    def obstacle(self, model: Any) -> str | None:
        """Return why a model is refused that has no third layer, or not all of the dimensions."""
        if self.layers is None and model.layers < 3:
            return f"it acts from the third layer on, and the model has {model.layers}; name others with layers=..."
        outside = [d for d in self.dims or () if not 0 <= d < model.dim]
        return f"dimensions {outside} do not exist: its stream has 0..{model.dim - 1}" if outside else None

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that finds the sinks and moves their attention."""
        tau = min(20.0, 20 * (model.dim / 4096) ** 0.5) if self.tau is None else self.tau
        layers = tuple(range(2, model.layers)) if self.layers is None else tuple(self.layers)
        return (TakeFromSinks(self.keep, self.most, self.least, tau, self.dims, layers),)


@final
@dataclass(frozen=True)
class TakeFromSinks(Intervention):
    """The intervention of VAR: finds sinks in the residual stream, and redistributes the pattern. See `Var`. Neutral at `keep=1`."""

    keep: float
    most: float
    least: float
    tau: float
    dims: tuple[int, ...] | None
    layers: tuple[int, ...]
    queries: Selector = AFTER_IMAGE
    site: ClassVar[str] = "pattern"

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: it reads the stream and changes the pattern."""
        return part == self.part and site in (self.site, "resid_pre") and layer in self.layers

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the stream unchanged, and the pattern with attention taken from sinks."""
        known = here.state.setdefault(self, {})
        if here.site == "resid_pre":
            if here.layer not in known:
                known[here.layer] = self.sinks(value, here)
            return value
        return self.redistribute(value, here, known[here.layer])

    def sinks(self, stream: Tensor, here: Here) -> Tensor:
        """Return which tokens of the prompt are sinks (batch, token)."""
        size = stream.float().abs()
        massive = size > self.tau * size.square().mean(-1, keepdim=True).sqrt()
        if self.dims is None:
            among = (massive & here.queries(PROMPT - Segment.IMAGE)).any(1, keepdim=True)
        else:
            among = torch.zeros_like(massive[:1, :1]).index_fill(-1, torch.tensor(self.dims, device=stream.device), 1)
        return (massive & among & here.queries(PROMPT)).any(-1)

    def redistribute(self, value: Tensor, here: Here, found: Tensor) -> Tensor:
        """Return the pattern with the sinks' lost attention given to other image tokens."""
        grown = torch.nn.functional.pad(found, (0, here.key_span[1] - found.shape[1]))
        sinks, image = grown[:, None, None, slice(*here.key_span)], here.keys(Segment.IMAGE)
        total, sunk = attention_share(value, image), attention_share(value, image & sinks)
        has = attention_share(value, image & ~sinks)
        rows = here.queries(self.queries) & (total >= self.least) & (sunk <= self.most * total) & (has > 0)
        gain = 1 + (1 - self.keep) * attention_share(value, sinks) / has.clamp_min(torch.finfo(torch.float32).tiny)
        factor = torch.where(sinks, self.keep, torch.where(image, gain, 1.0))
        return torch.where(rows, (value.float() * factor).to(value.dtype), value)
