"""Reading the per-head weights out of a decoder layer, whatever its projections are called."""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from interp.data.heads import HeadWeights, LogitDirections
from interp.families.base import Family

FUSED = ("c_attn", "query_key_value", "qkv_proj", "W_pack")
OUTPUTS = ("o_proj", "c_proj", "dense", "out_proj")


def head_weights(layer: nn.Module, family: Family, config: Any, decoder: nn.Module | None = None) -> HeadWeights:
    """Return what each query head of a layer multiplies by; the norm's gain folded in, its bias left out.

    Args:
        layer: the decoder layer.
        family: where its parts are.
        config: the decoder's configuration.
        decoder: the module that owns the layers, for the rotary frequencies; left out, the weights carry none.

    Raises:
        TypeError: packed (quantised) weights, or projections of an unknown form.
    """
    attention = layer.get_submodule(family.attention)
    count = int(config.num_attention_heads)
    shared = int(getattr(config, "num_key_value_heads", None) or count)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // count)
    (q, k, v), biases = _projections(attention, count, shared, width)
    norm = layer.get_submodule(family.attn_norm)
    gain = _gain(norm)
    q, k, v = ((x * gain).float() for x in (q, k, v))  # one copy each, whatever type they are kept in
    out = _plain(_child(attention, OUTPUTS))[0].T.reshape(count, width, -1).transpose(1, 2)
    group = count // shared
    b_q, b_k, b_v = biases
    repeat = lambda x: x if group == 1 else x.repeat_interleave(group, 0)  # noqa: E731
    scale = float(getattr(attention, "scaling", None) or width**-0.5)
    rotary = None if decoder is None else _rotary(decoder, attention)
    epsilon = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)) or 0.0)
    return HeadWeights(
        *(q, repeat(k), repeat(v), out, b_q, repeat(b_k), repeat(b_v), scale),
        rotary=rotary,
        centred=isinstance(norm, nn.LayerNorm),
        epsilon=epsilon,
    )


def logit_directions(head: nn.Module, norm: nn.Module, ids: Tensor) -> LogitDirections:
    """Return what the stream is multiplied by for the logits of some tokens; the final norm's gain folded in.

    Raises:
        TypeError: packed (quantised) weights.
    """
    weight, bias = _plain(head)
    rows, gain = weight[ids.to(weight.device)].float(), _gain(norm)
    vectors, centred = rows * gain, isinstance(norm, nn.LayerNorm)
    shift = getattr(norm, "bias", None)
    added = bias[ids.to(bias.device)] + (0 if shift is None else rows @ shift.detach().float())
    epsilon = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)) or 0.0)
    return LogitDirections(vectors - vectors.mean(-1, keepdim=True) if centred else vectors, added, centred, epsilon)


def _rotary(decoder: nn.Module, attention: nn.Module) -> Tensor | None:
    """Return the frequencies by which the decoder turns the pairs (i, i + n) of head dimensions; None where it does otherwise."""
    module = dict(decoder.named_children()).get("rotary_emb")
    half = getattr(sys.modules[type(attention).__module__], "rotate_half", None)
    if (
        module is None or half is None or half(torch.arange(4)).tolist() != [-2, -3, 0, 1]
    ):  # pairs of neighbours are another layout
        return None
    buffers = dict(module.named_buffers(recurse=False))
    kind = getattr(attention, "layer_type", None)  # Gemma 3 turns its sliding and its full layers at different speeds
    found = buffers.get(f"{kind}_inv_freq", buffers.get("inv_freq"))
    return None if found is None else found.detach().float()


def _projections(
    attention: nn.Module, count: int, shared: int, width: int
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    names = dict(attention.named_children())
    if {"q_proj", "k_proj", "v_proj"} <= set(names):
        parts = [_plain(names[n]) for n in ("q_proj", "k_proj", "v_proj")]
    else:
        weight, bias = _plain(_child(attention, FUSED))
        if "query_key_value" in names:  # GPT-NeoX: heads first, then q, k, v within each
            weight, bias = (x.view(count, 3, width, *x.shape[1:]).transpose(0, 1).flatten(0, 2) for x in (weight, bias))
        sizes = [count * width, shared * width, shared * width]
        parts = list(zip(weight.split(sizes), bias.split(sizes), strict=True))
    shaped = [
        (w.view(n, width, -1), b.view(n, width)) for (w, b), n in zip(parts, (count, shared, shared), strict=True)
    ]
    (q, bq), (k, bk), (v, bv) = shaped
    return (q, k, v), (bq, bk, bv)


def _child(attention: nn.Module, names: tuple[str, ...]) -> nn.Module:
    children = dict(attention.named_children())
    found = next((children[n] for n in names if n in children), None)
    if found is None:
        raise TypeError(
            f"{type(attention).__name__} has none of {', '.join(names)}, only {', '.join(children)}: its weights cannot be read"
        )
    return found


def _plain(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight (out, in) as it is kept, and bias in float32."""
    weight = module.weight
    if not weight.is_floating_point() or weight.ndim != 2:
        raise TypeError(
            f"{type(module).__name__} holds packed weights of type {weight.dtype}: load the model without quantization to read them"
        )
    weight = weight.detach()
    if type(module).__name__ == "Conv1D":
        weight = weight.T
    bias = getattr(module, "bias", None)
    return weight, torch.zeros(weight.shape[0], device=weight.device) if bias is None else bias.detach().float()


def _gain(norm: nn.Module) -> Tensor:
    """Return what a norm multiplies the normalised stream by, per dimension."""
    gain = norm.weight.detach().float()
    return 1 + gain if type(norm).__name__.startswith("Gemma") else gain
