"""Token propagation probability: how likely a token at a place in the sequence is in the linear part of the softmax.

`Propagation` measures it on a conversation, `propagation` from the weights alone, `random_walk_propagation` by simulation.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.analysis.spectrum import Covariance, Products, covariance_rows, head_spectrum, products, require_weights
from interp.data.heads import HeadWeights
from interp.data.result import Result

Variance = Literal["corrected", "as_published", "exact"]
VARIANCES = ("corrected", "as_published", "exact")


def propagation_probability(
    theta: Float[Tensor, " key"],
    trace: Float[Tensor, "*batch"],
    trace_symmetric: Float[Tensor, "*batch"],
    trace_crossed: Float[Tensor, "*batch"] | None = None,
    *,
    scale: float,
    variance: Variance = "corrected",
) -> Float[Tensor, "*batch key"]:
    """Return the probability ρ(θ) that the token at the fraction θ of the sequence is in the linear part of the softmax.

    The scores of the last token against a Gaussian random walk are projected by the linearised softmax; the projection is
    approximated as normal, with mean μ = (θ - ½) s tr W and variance v, and ρ = Φ(μ/√v) - Φ((μ - 1)/√v), in [0, 1]. With t2 = tr (S Σ)²:

    - `corrected`: v = (2θ² - 2θ + 7/12) s² t2, exact for symmetric W_QK;
    - `as_published`: v = (2θ² + 7/12) s² t2, as the papers print it;
    - `exact`: v = s² [(θ² - θ + ⅓) tr(W_QK Σ W_QKᵀ Σ) + (θ - ½)² tr W²], for any W_QK.

    Args:
        theta: places in [0, 1]; 1 is the last token.
        trace: tr W.
        trace_symmetric: tr (S Σ)², S the symmetric part of W_QK.
        trace_crossed: tr(W_QK Σ W_QKᵀ Σ); needed for `exact`.
        scale: s, what scores are multiplied by.
        variance: which formula.

    Raises:
        ValueError: a place outside [0, 1], an unknown variance, or `exact` without the crossed trace.

    References: Bao et al. (2024); TAME (2025), propositions 1 and 2. Differs: the published variance lacks -2θ, which Monte Carlo
    (`random_walk_propagation`) shows; `as_published` keeps it.
    """
    if bool(((theta < 0) | (theta > 1)).any()):
        raise ValueError(f"theta is a place in the sequence, from 0 to 1, got {theta.min():.3g} to {theta.max():.3g}")
    if variance not in VARIANCES:
        raise ValueError(f"variance is one of {', '.join(VARIANCES)}, got {variance!r}")
    if variance == "exact" and trace_crossed is None:
        raise ValueError("variance='exact' needs trace_crossed, tr(W_QK Σ W_QKᵀ Σ): head_spectrum gives it")
    at = theta.double()
    t, t2 = trace.double()[..., None], trace_symmetric.double()[..., None]
    if variance == "exact":
        crossed = trace_crossed.double()[..., None]  # type: ignore[union-attr]
        spread = (at**2 - at + 1 / 3) * crossed + (at - 0.5) ** 2 * (2 * t2 - crossed)
    else:
        spread = (2 * at**2 - (2 * at if variance == "corrected" else 0) + 7 / 12) * t2
    mean = (at - 0.5) * scale * t
    deviation = scale * spread.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    normal = torch.special.ndtr
    return (normal(mean / deviation) - normal((mean - 1) / deviation)).float()


def random_walk_propagation(
    weights: HeadWeights,
    rows: Float[Tensor, "sample dim"] | None = None,
    *,
    length: int = 128,
    samples: int = 512,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "head key"]:
    """Return the propagation probability of every place by simulation, without the normal approximation.

    Draws Gaussian random walks x_1 ~ N(0, Σ), x_{t+1} ~ N(x_t, Σ), scores the last token against all, ω_i = s (W_K x_i) · (W_Q x_T),
    and returns how often (ω_i - mean ω)/T + 1/T lies in [0, 1]. Entry i - 1 is for θ = i/T; standard error at most ½ samples^-½.
    The walks are drawn in the 2 head_dim dimensions of keys and queries, where they have the same distribution.

    Raises:
        ValueError: fewer than two tokens or one sample.

    References: Bao et al. (2024), assumption 1 and definition of ρ; AIR's supplement, appendix B. Differs: no.
    """
    if length < 2 or samples < 1:
        raise ValueError(
            f"a random walk needs at least two tokens and one sample, got length={length} and samples={samples}"
        )
    return torch.stack(
        [_walked(root, weights.scale, length, samples, generator) for root in _roots(products(weights, rows))]
    )


def _roots(parts: Products) -> Float[Tensor, "head _ _"]:
    values, vectors = torch.linalg.eigh(parts.joint.cpu())
    return (vectors * values.clamp_min(0).sqrt()[..., None, :]).float()


def _walked(root: Tensor, scale: float, length: int, samples: int, generator: torch.Generator | None) -> Tensor:
    """Return how often each place is in the linear part; walks are drawn in blocks to bound the memory."""
    half, inside = len(root) // 2, torch.zeros(length)
    for start in range(0, samples, 64):
        count = min(64, samples - start)
        walk = (torch.randn(count, length, len(root), generator=generator) @ root.T).cumsum(1)
        scores = scale * (walk[..., :half] @ walk[:, -1, half:, None])[..., 0]
        linear = (scores - scores.mean(-1, keepdim=True) + 1) / length
        inside += ((linear >= 0) & (linear <= 1)).float().sum(0)
    return inside / samples


@final
@dataclass(frozen=True)
class PropagationCurves(Result):
    """The token propagation probability ρ of every head at every place θ of the sequence, in [0, 1]."""

    rho: Float[Tensor, "layer head key"]
    theta: Float[Tensor, " key"]
    layers: tuple[int, ...]
    variance: str
    covariance: str
    offset: int

    @classmethod
    def summary_field(cls) -> str:
        """Return `rho`."""
        return "rho"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers, and θ of every place."""
        return {"layer": list(self.layers), "key": [round(float(x), 6) for x in self.theta]}


@final
@dataclass(frozen=True)
class Propagation(Analysis[PropagationCurves]):
    """The token propagation probability of every head, from its weights and the covariance of the conversation.

    Args:
        variance: the formula, see `propagation_probability`; `simulated` draws random walks instead.
        covariance: Σ; by default the covariance of the steps from token to token, the increments of a random walk.
        offset: the number of tokens by which the key precedes the query, for models with rotary embedding.
        places: the number n of places θ = 1/n, 2/n, ..., 1 of the sequence; the length of the walks when simulated.
        samples: the number of walks, when simulated.
        seed: of the walks.
    """

    variance: Literal["corrected", "as_published", "exact", "simulated"] = "corrected"
    covariance: Covariance = "increments"
    offset: int = 0
    places: int = 64
    samples: int = 512
    seed: int = 0
    want: ClassVar[frozenset[str]] = frozenset({"resid_pre"})

    def __post_init__(self) -> None:
        """Refuse settings that cannot be computed.

        Raises:
            ValueError: an unknown variance or covariance, or fewer than two places.
        """
        covariance_rows(torch.eye(4), self.covariance)
        if self.variance not in (*VARIANCES, "simulated"):
            raise ValueError(f"variance is one of {', '.join(VARIANCES)}, simulated; got {self.variance!r}")
        if self.places < 2 or self.samples < 1:
            raise ValueError(
                f"at least two places and one sample are needed, got places={self.places} and samples={self.samples}"
            )

    @property
    def theta(self) -> Float[Tensor, " key"]:
        """The places, as fractions of the sequence."""
        return torch.arange(1, self.places + 1) / self.places

    def of_layer(self, weights: HeadWeights, rows: Float[Tensor, "sample dim"] | None) -> Float[Tensor, "head key"]:
        """Return the probabilities of one layer; `rows` are those of `covariance_rows`."""
        turned = weights.at_offset(self.offset)
        if self.variance == "simulated":
            drawn = torch.Generator().manual_seed(self.seed)
            return random_walk_propagation(turned, rows, length=self.places, samples=self.samples, generator=drawn)
        s = head_spectrum(turned, rows)
        kind: Variance = self.variance
        return propagation_probability(
            self.theta, s.trace, s.trace_symmetric, s.trace_crossed, scale=weights.scale, variance=kind
        )

    def reduce(self, values: Mapping[str, Tensor], view: View) -> Float[Tensor, "head key"]:
        """Return one layer's probabilities.

        Raises:
            ValueError: the view has no weights.
        """
        weights = require_weights(view, "Propagation")
        return self.of_layer(weights, covariance_rows(weights.normalised(values["resid_pre"]), self.covariance))

    def finish(self, partials: Mapping[int, Tensor], view: View) -> PropagationCurves:
        """Stack the layers."""
        return self._curves(partials)

    def _curves(self, partials: Mapping[int, Tensor]) -> PropagationCurves:
        rho = torch.stack(list(partials.values()))
        return PropagationCurves(rho, self.theta, tuple(partials), self.variance, self.covariance, self.offset)


def propagation(
    weights: Callable[[int], HeadWeights], layers: Iterable[int], settings: Propagation | None = None
) -> PropagationCurves:
    """Return the propagation probabilities from the weights alone (Σ = 1): `propagation(model.weights, range(model.layers))`.

    Args:
        weights: returns the weights of a layer.
        layers: the layers.
        settings: with the identity as covariance; `Propagation(covariance="identity")` by default.

    Raises:
        ValueError: no layer, or a covariance that needs activations.
    """
    chosen = settings or Propagation(covariance="identity")
    if chosen.covariance != "identity":
        raise ValueError(
            f"covariance={chosen.covariance!r} needs activations: use interp.measure(model, prompt, Propagation(...)), or 'identity'"
        )
    partials = {layer: chosen.of_layer(weights(layer), None) for layer in layers}
    if not partials:
        raise ValueError(
            "propagation needs at least one layer, for example propagation(model.weights, range(model.layers))"
        )
    return chosen._curves(partials)
