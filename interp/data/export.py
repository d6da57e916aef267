"""Captures in the format of TransformerLens, so that its tools run on them."""

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
    """What TransformerLens' tools ask a model's configuration."""

    n_layers: int
    n_heads: int
    d_head: int
    d_model: int
    normalization_type: str | None
    attn_only: bool = False


@final
@dataclass(frozen=True, eq=False)
class Outputs:
    """The output weights of one layer's heads, as TransformerLens' tools ask for them: `block.attn.W_O`."""

    weights: Callable[[int], HeadWeights]
    layer: int

    @property
    def attn(self) -> "Outputs":
        """This."""
        return self

    @property
    def W_O(self) -> Tensor:
        """Output weights (head, head_dim, dim), computed when they are asked for."""
        return self.weights(self.layer).W_O.float().transpose(1, 2)


@final
@dataclass(frozen=True, eq=False)
class Standin:
    """What TransformerLens' tools need of a model beside its activations."""

    cfg: Shape
    blocks: tuple[Outputs, ...] = ()
    ln_final: nn.Module | None = None


def standin(
    sizes: Mapping[str, int],
    layers: int,
    weights: Callable[[int], HeadWeights] | None = None,
    final_norm: nn.Module | None = None,
) -> Standin:
    """Return what stands for a model; with its weights and final norm, more of TransformerLens' tools can run.

    Args:
        sizes: `heads`, `head_dim` and `dim`, as a capture carries them.
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

    Gradients are named like their values with `_grad` behind, `hook_embed` is what enters the first layer. Differs from a
    cache that TransformerLens made itself: `hook_attn_scores` are those before the mask; the other parts' arrays are left out.
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
