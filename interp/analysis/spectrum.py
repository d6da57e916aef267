"""The eigenspectrum of W = W_QK Σ of every head, from the weights alone or with the covariance of activations.

`spectrum` needs no pass (Σ = 1); `Spectrum` uses the covariance of a conversation. Both give `HeadSpectra`; `regime` classifies heads.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from interp.analysis.base import Analysis, View
from interp.data.heads import HeadWeights
from interp.data.result import Result

Covariance = Literal["identity", "states", "increments"]
SOME = 4
"""Heads converted to float64 at a time: the allocator reuses the memory of small arrays, which large ones would not get."""
REGIMES = ("uniform", "localised", "vanishing")


def covariance_rows(stream: Float[Tensor, "token dim"], of: Covariance) -> Float[Tensor, "sample dim"] | None:
    """Return rows F with Σ = Fᵀ F, the covariance of a stream's states or of its steps from token to token; None for the identity.

    Population covariance, centred. Σ itself, a dim × dim matrix, is never formed.

    Raises:
        ValueError: an unknown kind, or too few tokens (states need two, increments three).
    """
    if of == "identity":
        return None
    if of not in ("states", "increments"):
        raise ValueError(f"covariance is 'identity', 'states' or 'increments', got {of!r}")
    rows = stream.float() if of == "states" else stream.float().diff(dim=0)
    if len(rows) < 2:
        raise ValueError(
            f"the covariance of {of} needs at least two of them, but the conversation has {len(stream)} tokens; "
            "use covariance='identity'"
        )
    return (rows - rows.mean(0)) / len(rows) ** 0.5


@final
@dataclass(frozen=True, eq=False)
class Products:
    """The head_dim × head_dim products from which every quantity of W = W_QK Σ follows, with W_QK = W_Kᵀ W_Q, in float64.

    Args:
        qk: W_Q Σ W_Kᵀ.
        qq: W_Q Σ W_Qᵀ.
        kk: W_K Σ W_Kᵀ.
    """

    qk: Float[Tensor, "head head_dim head_dim"]
    qq: Float[Tensor, "head head_dim head_dim"]
    kk: Float[Tensor, "head head_dim head_dim"]

    @property
    def joint(self) -> Tensor:
        """The covariance (head, 2 head_dim, 2 head_dim) of a key followed by a query, when the stream's is Σ."""
        return torch.cat([torch.cat([self.kk, self.qk.mT], -1), torch.cat([self.qk, self.qq], -1)], -2)


def products(weights: HeadWeights, rows: Float[Tensor, "sample dim"] | None = None) -> Products:
    """Return the small products of a layer; `rows` are those of `covariance_rows`, None for the identity."""
    some = zip(weights.W_Q.split(SOME), weights.W_K.split(SOME), strict=True)
    return Products(*map(torch.cat, zip(*(_products(q.double(), k.double(), rows) for q, k in some), strict=True)))


def _products(q: Tensor, k: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if rows is not None:
        q, k = q @ rows.to(q).T, k @ rows.to(k).T
    return q @ k.mT, q @ q.mT, k @ k.mT


@final
@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """The spectrum of every head of one layer; the fields are those of `HeadSpectra`."""

    eigenvalues: Complex[Tensor, "head head_dim"]
    symmetric_eigenvalues: Float[Tensor, "head dim"]
    trace: Float[Tensor, " head"]
    trace_squared: Float[Tensor, " head"]
    trace_symmetric: Float[Tensor, " head"]
    trace_crossed: Float[Tensor, " head"]
    mean: Float[Tensor, " head"]
    variance: Float[Tensor, " head"]
    xi: Float[Tensor, " head"]
    eta: Float[Tensor, " head"]
    norm: Float[Tensor, " head"]
    bound: Float[Tensor, " head"]


def head_spectrum(weights: HeadWeights, rows: Float[Tensor, "sample dim"] | None = None) -> LayerSpectrum:
    """Return the eigenspectrum of W = W_QK Σ of every head of a layer, with W_QK = W_Kᵀ W_Q.

    Everything comes from head_dim × head_dim products: the eigenvalues of W other than its structural zeros are those of
    M = W_Q Σ W_Kᵀ, tr W = tr M, tr W² = tr M²; those of the symmetric part S Σ, S = (W_QK + W_QKᵀ)/2, are the eigenvalues of a
    symmetric 2 head_dim × 2 head_dim matrix, hence real, and tr (S Σ)² = ½ [tr M² + tr(W_Q Σ W_Qᵀ W_K Σ W_Kᵀ)].

    Args:
        weights: the layer's, with the norm's gain folded in and grouped-query attention resolved.
        rows: what `covariance_rows` gives for the normalised stream; None for Σ = 1.

    References: Bao et al. (2024), self-attention and the QK-eigenspectrum; TAME (2025), propositions 1 to 3 and equation 9. Differs:
    d is that of the scores (scale = d^-½, usually head_dim) rather than the width of the stream; mean and variance leave out the
    structural zeros; query and key biases and norms on queries and keys are left out.
    """
    p = products(weights, rows)
    symmetric = _symmetric_eigenvalues(p.joint)
    count = p.qk.shape[-1]
    trace = p.qk.diagonal(dim1=-2, dim2=-1).sum(-1)
    squared, crossed = (p.qk * p.qk.mT).sum((-2, -1)), (p.qq * p.kk).sum((-2, -1))
    of_symmetric = (squared + crossed) / 2
    plain = p if rows is None else products(weights)
    root = _root(plain.kk)
    squares = torch.linalg.eigvalsh(root.mT @ plain.qq @ root)  # of W_QK's singular values
    found = {
        "symmetric_eigenvalues": symmetric,
        "trace": trace,
        "trace_squared": squared,
        "trace_symmetric": of_symmetric,
        "trace_crossed": crossed,
        "mean": trace / count,
        "variance": squared / count - (trace / count).square(),
        "xi": trace / of_symmetric.clamp_min(torch.finfo(torch.float64).tiny).sqrt(),
        "eta": weights.scale * of_symmetric.clamp_min(0).sqrt(),
        "norm": squares.amax(-1).clamp_min(0).sqrt(),
        "bound": trace.abs() / (weights.W_Q.shape[-1] * _largest(rows)),
    }
    return LayerSpectrum(
        torch.linalg.eigvals(p.qk).to(torch.complex64).cpu(), **{n: v.float().cpu() for n, v in found.items()}
    )


def _symmetric_eigenvalues(joint: Tensor) -> Tensor:
    """Return the eigenvalues of S Σ from the joint covariance G = R Rᵀ of keys and queries: those of Rᵀ J R with J = ½ [0 1; 1 0]."""
    root = _root(joint)
    half = root.shape[-1] // 2
    crossed = root[..., :half, :].mT @ root[..., half:, :]
    return torch.linalg.eigvalsh((crossed + crossed.mT) / 2)


def _root(gram: Tensor) -> Tensor:
    """Return R with R Rᵀ = G: triangular, or from the eigenvectors where some G has no more than a few directions."""
    triangular, failed = torch.linalg.cholesky_ex(gram)
    if not bool(failed.any()):
        return triangular
    values, vectors = torch.linalg.eigh(gram)
    return vectors * values.clamp_min(0).sqrt()[..., None, :]


def _largest(rows: Tensor | None) -> float:
    return 1.0 if rows is None else float(torch.linalg.svdvals(rows.double()).max().square())


@final
@dataclass(frozen=True)
class HeadSpectra(Result):
    """The eigenspectrum of W = W_QK Σ of every head.

    `eigenvalues` are those of W without its structural zeros, `symmetric_eigenvalues` those of its symmetric part (real, two a head
    dimension, ascending). `trace` = tr W, `trace_squared` = tr W², `trace_symmetric` = tr (S Σ)², `trace_crossed` =
    tr(W_QK Σ W_QKᵀ Σ). `mean` and `variance` are of the eigenvalues (the variance of complex ones is mean(w²) - mean(w)², real, and
    can be negative). `xi` = tr W / √tr (S Σ)², within ±√(2 head_dim); `eta` = scale · √tr (S Σ)²; `xi · eta` = scale · tr W. `regime`
    indexes `REGIMES`. `norm` is ‖W_QK‖₂, and `bound` = |tr W| / (dim ‖Σ‖₂), which never exceeds it.
    """

    eigenvalues: Complex[Tensor, "layer head head_dim"]
    symmetric_eigenvalues: Float[Tensor, "layer head dim"]
    trace: Float[Tensor, "layer head"]
    trace_squared: Float[Tensor, "layer head"]
    trace_symmetric: Float[Tensor, "layer head"]
    trace_crossed: Float[Tensor, "layer head"]
    mean: Float[Tensor, "layer head"]
    variance: Float[Tensor, "layer head"]
    xi: Float[Tensor, "layer head"]
    eta: Float[Tensor, "layer head"]
    norm: Float[Tensor, "layer head"]
    bound: Float[Tensor, "layer head"]
    regime: Int[Tensor, "layer head"]
    layers: tuple[int, ...]
    scale: float
    covariance: str
    offset: int

    @classmethod
    def summary_field(cls) -> str:
        """Return `xi`."""
        return "xi"

    @property
    def labels(self) -> dict[str, list]:
        """The names of the layers."""
        return {"layer": list(self.layers)}


def regime(
    xi: Float[Tensor, "*batch"], eta: Float[Tensor, "*batch"], *, localised: float = 1.0, vanishing: float = 10.0
) -> Int[Tensor, "*batch"]:
    """Return the regime of the token propagation probability, as an index into `REGIMES`.

    Vanishing when η ≥ `vanishing`: the scores vary so much that hardly any token is in the linear part of the softmax. Otherwise
    localised when |ξ η| ≥ `localised`, where the mean score crosses the middle of that part inside the sequence and moves by more
    than the spread, |ξ| ≥ 1; otherwise uniform.

    References: TAME (2025), proposition 3. Differs: the paper gives limits (η → ∞, ξ → 0); both bounds are this project's.
    """
    found = torch.zeros_like(xi, dtype=torch.int64)
    found[((xi * eta).abs() >= localised) & (xi.abs() >= 1)] = REGIMES.index("localised")
    found[eta >= vanishing] = REGIMES.index("vanishing")
    return found


def spectrum(weights: Callable[[int], HeadWeights], layers: Iterable[int], *, offset: int = 0) -> HeadSpectra:
    """Return the spectra of a model's heads from its weights alone (Σ = 1): `spectrum(model.weights, range(model.layers))`.

    Args:
        weights: returns the weights of a layer.
        layers: the layers.
        offset: the number of tokens by which the key precedes the query, for models with rotary embedding.

    Raises:
        ValueError: no layer, or an offset for a model without rotary embedding.
        TypeError: packed (quantised) weights.
    """
    order = tuple(layers)
    scale, partials = 0.0, {}
    for layer in order:
        own = weights(layer)
        scale, partials[layer] = own.scale, head_spectrum(own.at_offset(offset))
    return _stacked(partials, scale, Spectrum("identity", offset))


@final
@dataclass(frozen=True)
class Spectrum(Analysis[HeadSpectra]):
    """The eigenspectrum of every head, with the covariance of the conversation it is measured on.

    Args:
        covariance: Σ: that of the normalised stream each layer reads (`states`), of its steps from token to token (`increments`, those of
            a random walk), or 1 (`identity`; then `spectrum` needs no pass).
        offset: the number of tokens by which the key precedes the query, for models with rotary embedding.
        localised: the bound on |ξ η| of the localised regime.
        vanishing: the bound on η of the vanishing regime.
    """

    covariance: Covariance = "states"
    offset: int = 0
    localised: float = 1.0
    vanishing: float = 10.0
    want: ClassVar[frozenset[str]] = frozenset({"resid_pre"})

    def __post_init__(self) -> None:
        """Refuse an unknown covariance.

        Raises:
            ValueError: neither identity, states nor increments.
        """
        covariance_rows(torch.eye(4), self.covariance)

    def reduce(self, values: Mapping[str, Tensor], view: View) -> tuple[LayerSpectrum, float]:
        """Return one layer's spectra and the scale of its scores.

        Raises:
            ValueError: the view has no weights.
        """
        weights = require_weights(view, "Spectrum")
        rows = covariance_rows(weights.normalised(values["resid_pre"]), self.covariance)
        return head_spectrum(weights.at_offset(self.offset), rows), weights.scale

    def finish(self, partials: Mapping[int, tuple[LayerSpectrum, float]], view: View) -> HeadSpectra:
        """Stack the layers."""
        scale = next(iter(partials.values()))[1]
        return _stacked({layer: found for layer, (found, _) in partials.items()}, scale, self)


def require_weights(view: View, analysis: str) -> HeadWeights:
    """Return the weights of the layer that a view describes.

    Raises:
        ValueError: the view has none.
    """
    if view.weights is None:
        raise ValueError(
            f"{analysis} needs the model's weights, which a capture does not hold: use interp.measure(model, prompt, ...), or "
            "on_capture(..., view=model.view(prompt))"
        )
    return view.weights(view.layer)


def _stacked(partials: Mapping[int, LayerSpectrum], scale: float, settings: Spectrum) -> HeadSpectra:
    if not partials:
        raise ValueError(
            "a spectrum needs at least one layer, for example spectrum(model.weights, range(model.layers))"
        )
    arrays = {f.name: torch.stack([getattr(p, f.name) for p in partials.values()]) for f in fields(LayerSpectrum)}
    kinds = regime(arrays["xi"], arrays["eta"], localised=settings.localised, vanishing=settings.vanishing)
    return HeadSpectra(
        **arrays,
        regime=kinds,
        layers=tuple(partials),
        scale=scale,
        covariance=settings.covariance,
        offset=settings.offset,
    )
