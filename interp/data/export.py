"""Captures as a TransformerLens `ActivationCache`, so that its tools run on them; `Capture.to_activation_cache` calls this module."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from transformer_lens import ActivationCache

from interp.data.heads import HeadWeights
from interp.data.sites import INSIDE_ATTENTION

ON_THE_STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@final
@dataclass(frozen=True)
class Shape:
    """The fields of a model's configuration that TransformerLens' tools read."""

    n_layers: int
    n_heads: int
    d_head: int
    d_model: int
    normalization_type: str | None
    attn_only: bool = False


@final
@dataclass(frozen=True, eq=False)
class Outputs:
    """The output weights of one layer's heads, under the path that TransformerLens' tools read: `block.attn.W_O`."""

    weights: Callable[[int], HeadWeights]
    layer: int

    @property
    def attn(self) -> "Outputs":
        """This object: it serves as the block and as its attention."""
        return self

    @property
    def W_O(self) -> Tensor:
        """Output weights (head, head_dim, dim), computed on access: one layer at a time is converted to float32."""
        return self.weights(self.layer).W_O.float().transpose(1, 2)


@final
@dataclass(frozen=True, eq=False)
class Standin:
    """The parts of a model, other than activations, that TransformerLens' tools need."""

    cfg: Shape
    blocks: tuple[Outputs, ...] = ()
    ln_final: nn.Module | None = None


def build_standin(
    sizes: Mapping[str, int],
    layers: int,
    weights: Callable[[int], HeadWeights] | None = None,
    final_norm: nn.Module | None = None,
) -> Standin:
    """Return a stand-in for a `HookedTransformer`; with weights and the final norm, more of TransformerLens' tools run.

    Args:
        sizes: `heads`, `head_dim` and `dim`, as in `Capture.sizes`.
        layers: the number of layers.
        weights: the per-head weights of a layer.
        final_norm: the norm before the head.
    """
    norm = None if final_norm is None else "RMS" if "RMS" in type(final_norm).__name__ else "LN"
    shape = Shape(layers, sizes["heads"], sizes["head_dim"], sizes["dim"], norm)
    blocks = () if weights is None else tuple(Outputs(weights, i) for i in range(layers))
    return Standin(shape, blocks, final_norm)


def activation_cache(arrays: Mapping[str, Tensor], layers: Sequence[int], model: Standin) -> ActivationCache:
    """Return arrays (layer, ...) as an `ActivationCache` under TransformerLens' names, with a batch axis of one.

    Gradients have the name of their value and the suffix `_grad`; `hook_embed` is the input of the first layer. Differs from a
    cache made by TransformerLens: `hook_attn_scores` are the scores before the mask, and the arrays of other parts are left out.
    """
    cache: dict[str, Tensor] = {}
    for name, array in arrays.items():
        site = name.removesuffix("_grad")
        if site not in INSIDE_ATTENTION + ON_THE_STREAM:
            continue
        place = f"attn.hook_{name}" if site in INSIDE_ATTENTION else f"hook_{name}"
        cache |= {f"blocks.{layer}.{place}": values[None] for layer, values in zip(layers, array, strict=True)}
    if "blocks.0.hook_resid_pre" in cache:
        cache["hook_embed"] = cache["blocks.0.hook_resid_pre"]
    return ActivationCache(cache, model)
