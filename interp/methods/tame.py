"""TAME: compresses the spectral energies of all heads to their logarithm."""

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.spectrum import products
from interp.data.heads import Heads, HeadWeights
from interp.data.tokens import EVERY
from interp.interventions.base import Intervention
from interp.interventions.heads import ScaleQueries
from interp.interventions.here import Here
from interp.interventions.method import Method


@final
@dataclass(frozen=True)
class Tame(Method):
    """Intervention on the eigenspectrum of every head's query-key matrix.

    `paper`: W_QK becomes gamma · log(η + xi) / √η · W_QK with η = tr S² the energy of its symmetric part S, so that η' =
    gamma² log²(η + xi): energies are compressed to their logarithm, and the shape of the spectrum does not change. For the scores,
    this is one fixed factor per head, an inverse temperature, computed from the weights once per model. Heads with log(η + xi) ≤ 0
    would change sign; they keep their scores and are listed in the intervention (`apart`).

    `release`: in every layer and call, queries are multiplied by 1 + strength / ln(e_Q) and keys by 1 + strength / ln(e_K); e is the
    sum of squares over tokens, averaged over heads. This is one factor per layer, not per head, computed from activations. It depends
    on the number of tokens in a call, so cached decoding differs from one pass, and a row depends on later ones.

    `constant`: every score times expansion² / suppression; the first released commit uses 1.3 and 1.

    Args:
        variant: one of the three; each uses only its own settings.
        gamma: setting of `paper`; unpublished. By default, the mean factor over the heads it acts on is 1.
        xi: setting of `paper`.
        strength: setting of `release`; 0 is neutral.
        expansion: setting of `constant`; 1 is neutral.
        suppression: setting of `constant`; 1 is neutral.

    References: Tang et al., TAME (ICLR 2025), section 5 as reported by third parties, and its released code (ANTRP). Differs: η is
    computed from the symmetric part and so never negative; statistics are in float32 or better, since in float16 the release's sum
    overflows and its factor becomes 1; each sample of a batch has its own energy, without padding (methods, decision 4).
    """

    variant: Literal["paper", "release", "constant"] = "paper"
    gamma: float | None = None
    xi: float = 1e-6
    strength: float = 0.8
    expansion: float = 1.3
    suppression: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that the variant does not use.

        Raises:
            ValueError: an unknown variant, a setting of another one, or a factor that is not positive.
        """
        used = {"paper": ("gamma", "xi"), "release": ("strength",), "constant": ("expansion", "suppression")}
        if self.variant not in used:
            raise ValueError(f"variant is one of {', '.join(used)}, got {self.variant!r}")
        defaults = {n: f.default for n, f in type(self).__dataclass_fields__.items() if n != "variant"}
        unused = [n for n, d in defaults.items() if n not in used[self.variant] and getattr(self, n) != d]
        if unused:
            raise ValueError(
                f"variant={self.variant!r} uses only {', '.join(used[self.variant])}, but {', '.join(unused)} was set"
            )
        if self.expansion <= 0 or self.suppression <= 0 or (self.gamma is not None and self.gamma <= 0):
            raise ValueError("gamma, expansion and suppression are above 0")

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return the interventions that scale queries, and keys in the release."""
        if self.variant == "release":
            return (ScaleByEnergy("q", self.strength), ScaleByEnergy("k", self.strength))
        if self.variant == "constant":
            same = self.expansion**2 / self.suppression
            return (ScaleQueries(((same,) * model.heads,) * model.layers),)
        energies = model.derived(
            "tame", lambda: torch.stack([head_energy(model.weights(i)) for i in range(model.layers)])
        )
        factors, apart = self.factors(energies)
        return (ScaleQueries(tuple(map(tuple, factors.tolist())), apart=apart),)

    def factors(self, energies: Float[Tensor, "layer head"]) -> tuple[Float[Tensor, "layer head"], Heads]:
        """Return the factor of each head's scores, 1 for the heads that are not scaled, and those heads."""
        logs = (energies.double() + self.xi).log()
        acted = logs > 0
        raw = torch.where(acted, logs / energies.double().sqrt(), 0)
        gamma = self.gamma if self.gamma is not None else float(acted.sum() / raw.sum().clamp_min(1e-300))
        factors = torch.where(acted, gamma * raw, 1).to(energies.dtype)
        return factors, Heads(tuple(map(tuple, (~acted).nonzero().tolist())))


def head_energy(weights: HeadWeights) -> Float[Tensor, " head"]:
    """Return η = tr S² of every head of a layer, S = (W_QK + W_QKᵀ) / 2, without forming the large W_QK."""
    p = products(weights)
    return (((p.qk * p.qk.mT).sum((-2, -1)) + (p.qq * p.kk).sum((-2, -1))) / 2).float()


@final
@dataclass(frozen=True)
class ScaleByEnergy(Intervention):
    """Multiply queries or keys by 1 + strength / ln(e), with e their sum of squares over tokens, averaged over heads. Neutral at 0."""

    of: Literal["q", "k"]
    strength: float

    @property
    def site(self) -> str:  # type: ignore[override]
        """The site: `q` or `k`."""
        return self.of

    def __call__(
        self, value: Float[Tensor, "batch token _ head_dim"], here: Here
    ) -> Float[Tensor, "batch token _ head_dim"]:
        """Return the scaled queries or keys."""
        real = here.queries(EVERY) if self.of == "q" else here.keys(EVERY)
        total = (value.float().square() * real).sum((1, 3), keepdim=True).mean(2, keepdim=True)
        return (value.float() * (1 + self.strength / (total + 1e-7).log())).to(value.dtype)
