"""FarSight: every row gives some of its attention to registers at later positions, where it is dropped."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from interp.data.tokens import EVERY, PROMPT, Selector
from interp.interventions.base import Intervention
from interp.interventions.here import Here
from interp.interventions.method import Method


@final
@dataclass(frozen=True)
class Farsight(Method):
    """Attention registers.

    The causal mask removes the scores of later tokens from row i. Here, the score of a later token j becomes, before the softmax,
    -(j - i) · (sigma · (1 - i / 4(n-1)) + m_h), with n tokens and m_h = 2^(-8(h+1)/H), ALiBi's slope of head h. After the softmax,
    the probabilities of these registers are set to 0 and rows are not renormalised: the attention given to registers is dropped,
    most of it in early rows. For a row whose visible scores have the sum Z of exponentials and whose registers
    have the sum R, this amounts to a factor Z / (Z + R).

    The last row has no later position, so a decoded token changes through earlier rows alone. As published, these rows are computed
    again at every step, each time with more registers, so there is no cache (`registers="all"`). By default, the registers of a prompt
    row are the rest of the prompt, and a response row has none; then decoding with a cache and one pass agree.

    `variant="release"` follows the public patch: it adds the causal mask to scores and registers alike, which removes the registers
    again and leaves the model unchanged. The audit reports this.

    Args:
        sigma: how fast registers decay; infinity is neutral.
        alibi: whether each head adds a slope of its own.
        registers: `prompt`, or `all` later tokens, which needs `use_cache=False` in `generate`.
        variant: the paper's method or the released code's.

    References: Tang et al., Seeing far and clearly (CVPR 2025), as the released code computes it before the causal mask undoes it
    (Shell/farsight_patch.py): sigma = ln 256 / ln 1024, the mean of a constant decay and one that halves towards the last row.
    Differs: registers of the prompt by default.
    """

    sigma: float = math.log(256) / math.log(1024)
    alibi: bool = True
    registers: Literal["prompt", "all"] = "prompt"
    variant: Literal["paper", "release"] = "paper"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: a sigma that is not positive, or unknown registers or variant.
        """
        if not self.sigma > 0:
            raise ValueError(f"sigma is above 0, got {self.sigma}")
        if self.registers not in ("prompt", "all") or self.variant not in ("paper", "release"):
            raise ValueError(
                f"registers is 'prompt' or 'all' and variant 'paper' or 'release', got {self.registers!r} and {self.variant!r}"
            )

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Return why a cache is refused with registers='all'; None otherwise."""
        if self.registers == "prompt" or options.get("use_cache") is False:
            return None
        return "registers='all' changes earlier rows at every step, but a cache keeps their old values; give use_cache=False"

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the one intervention that adds the registers."""
        sigma = math.inf if self.variant == "release" else self.sigma
        return (AddRegisters(sigma, self.alibi, EVERY if self.registers == "all" else PROMPT),)


@final
@dataclass(frozen=True)
class AddRegisters(Intervention):
    """The intervention of FarSight: reads the scores, and takes the registers' share from the pattern. See `Farsight`.

    Neutral at an infinite `sigma`.
    """

    sigma: float
    alibi: bool
    queries: Selector = PROMPT
    site: ClassVar[str] = "pattern"

    def acts_at(self, part: str, site: str, layer: int) -> bool:
        """Return whether this acts at a site of a layer: it reads the scores and changes the pattern."""
        return part == self.part and site in (self.site, "attn_scores")

    def __call__(self, value: Tensor, here: Here) -> Tensor:
        """Return the scores unchanged, and the pattern without the registers' share."""
        known = here.state.setdefault(self, {})
        if here.site == "attn_scores":
            known["scores"] = value
            return value
        # ln Z from one entry of each row, ln Z = score - ln probability, at the largest probability where the logarithm is safe.
        best = value.argmax(-1, keepdim=True)
        total = known.pop("scores").float().gather(-1, best) - value.float().gather(-1, best).log()
        factor = torch.sigmoid(total - self.register_sum(value, here).log())
        return torch.where(here.queries(self.queries), (value.float() * factor).to(value.dtype), value)

    def register_sum(self, value: Tensor, here: Here) -> Tensor:
        """Return the sum of the registers' exponentials (batch, head, query, 1): a geometric series in the distance."""
        count = here.keys(self.queries).sum(-1, keepdim=True)
        at = here.positions.to(value.device)[:, None, :, None].clamp_min(0)
        heads = torch.arange(1, here.head_count + 1, device=value.device)[None, :, None, None]
        decay = self.sigma * (1 - at / (count - 1).clamp_min(1) / 4) + (
            2.0 ** (-8 * heads / here.head_count) if self.alibi else 0
        )
        later = (count - 1 - at).clamp_min(0)
        return torch.where(later > 0, -torch.expm1(-decay * later) / torch.expm1(decay), 0)
