"""Interventions that weigh parts of the attention against each other, or heads against heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from interp.data.heads import Heads
from interp.data.tokens import EVERY, Selector
from interp.interventions.attention import Scores, attention_share, check_renormalize, restore_sums, scale_keys
from interp.interventions.base import Intervention, canonicalise
from interp.interventions.here import Here


@final
@dataclass(frozen=True)
class ReweightPattern(Intervention):
    """Multiply the attention on some keys and on others at once, in the rows that attend to the first ones too much.

    Neutral when both factors are 1.

    Args:
        source: the keys whose share decides, and is multiplied by `source_by`.
        target: the keys whose share is multiplied by `target_by`.
        source_by: a factor of at least 0.
        target_by: a factor of at least 0.
        above: act only in the rows (per head) that give the source more than this share.
        queries: the rows.
        layers: the layers; all by default.
        heads: the heads; all by default.
        renormalize: as in `ScalePattern`.
    """

    source: Selector
    target: Selector
    source_by: float
    target_by: float
    above: float = 0.0
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    heads: Heads | None = None
    renormalize: Literal["none", "row", "segment"] = "none"
    site: ClassVar[str] = "pattern"

    def __post_init__(self) -> None:
        """Put selectors, layers and heads into canonical form.

        Raises:
            ValueError: a negative factor or an unknown renormalisation.
        """
        canonicalise(self, "source", "target", "queries")
        if self.source_by < 0 or self.target_by < 0:
            raise ValueError(
                f"a probability cannot be scaled by {min(self.source_by, self.target_by)}; give factors of 0 or more"
            )
        check_renormalize(self.renormalize)

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the reweighted pattern."""
        changed = scale_keys(value, here, self.queries, ((self.source, self.source_by), (self.target, self.target_by)))
        rows = (attention_share(value, here.keys(self.source)) > self.above) & here.heads(self.heads)
        return restore_sums(torch.where(rows, changed, value), value, here, self.renormalize)


@final
@dataclass(frozen=True)
class RaiseScores(Intervention):
    """Add a multiple of the head mean of their size to the scores of some keys: z_h,ij + by · mean over heads of |z_ij|. Neutral at `by=0`.

    References: the "cross-head lens" of AIR's released code (methods section 6.3). Differs: no.
    """

    keys: Selector
    by: float
    queries: Selector = EVERY
    layers: Sequence[int] | None = None
    site: ClassVar[str] = "attn_scores"

    def __post_init__(self) -> None:
        """Put selectors and layers into canonical form."""
        canonicalise(self, "keys", "queries")

    def __call__(self, value: Scores, here: Here) -> Scores:
        """Return the raised scores."""
        touched = here.queries(self.queries) & here.keys(self.keys)
        return torch.where(touched, value + self.by * value.abs().mean(1, keepdim=True), value)
