"""A model with hand-written weights whose attention sink is known, for testing detectors and causal experiments.

It is not trained, and its results say nothing about trained models; wherever it appears it is called planted.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.families.base import family
from interp.loading import load
from interp.models.model import Model

LETTERS = "abcdefghijklmnop"
SINK_SCORE = 14.0
"""The score every sink head gives to the sink; all others get 0, so the sink keeps more than 0.9999 of the attention."""
GARBLING = 30.0
"""The gain with which a sink head writes what it attends to when it does not attend to the sink."""


@final
@dataclass(frozen=True, eq=False)
class Planted:
    """A planted model and its known properties.

    It predicts the successor of each letter in the alphabet a..p (p is followed by a), along a path that needs no attention.
    Its sink heads copy garbled letters into the stream unless they attend to the sink, whose own value is zero. So masking the sink
    breaks the prediction, and zeroing its value changes nothing.

    Args:
        model: the model.
        position: the position of the sink (`<s>`).
        layers: the layers in which it is a sink.
        heads: the heads that attend to it, in each of these layers.
        dims: the dimensions of its massive activation, from the output of layer 0 on.
    """

    model: Model
    position: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    dims: tuple[int, ...]

    def accuracy(self, logits: Tensor, ids: Int[Tensor, " token"]) -> float:
        """Return the share of letters whose successor gets the largest logit, in [0, 1]; from logits (token, vocab)."""
        letters = self.model.tokenizer.convert_tokens_to_ids(list(LETTERS))
        after = dict(zip(letters, letters[1:] + letters[:1], strict=True))
        right = [int(row.argmax()) == after[i] for row, i in zip(logits, ids.tolist(), strict=True) if i in after]
        return sum(right) / len(right)


def planted_sink(*, image: bool = False, layers: int = 4, seed: int = 0) -> Planted:
    """Return a planted Llama, or a LLaVA around it.

    Args:
        image: whether it takes an image; the image tokens carry only noise.
        layers: the number of layers, at least 2; all but the first have sink heads.
        seed: of the noise in the unused dimensions.

    Raises:
        ValueError: fewer than two layers.
    """
    if layers < 2:
        raise ValueError(f"a planted model needs at least 2 layers, got {layers}")
    module, processor = family("llava" if image else "llama").tiny()  # type: ignore[misc]
    tokenizer = getattr(processor, "tokenizer", processor)
    if not image:
        tokenizer.chat_template = None  # the letters alone
    text = _text_config(module.config.get_text_config(), layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if image:
            module.config.text_config = text
        module = type(module)(module.config if image else text).eval()
        with torch.no_grad():
            _write(module, tokenizer)
    model = load(module, processor=processor)
    model.name = "planted"
    return Planted(model, 0, tuple(range(1, layers)), (0, 1), (_MASSIVE,))


_START, _MASSIVE, _CONSTANT = len(LETTERS), len(LETTERS) + 1, len(LETTERS) + 2
_WIDTH, _HEADS, _HEAD_DIM = 64, 4, 16


def _text_config(config: Any, layers: int) -> Any:
    settings = {**config.to_dict(), "num_hidden_layers": layers, "hidden_size": _WIDTH, "intermediate_size": 32}
    settings |= {"num_attention_heads": _HEADS, "num_key_value_heads": _HEADS, "head_dim": _HEAD_DIM}
    settings |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e8}, "tie_word_embeddings": False}
    return type(config)(**settings)


def _write(module: nn.Module, tokenizer: Any) -> None:
    """Write the weights: dimensions 0..15 encode the letter, then `<s>`, the massive dimension, a constant, and noise."""
    for parameter in module.get_decoder().parameters():
        parameter.zero_()
    embed, head = module.get_input_embeddings().weight, module.get_output_embeddings().weight
    embed[:, _CONSTANT + 1 :] = 0.1 * torch.randn(embed.shape[0], _WIDTH - _CONSTANT - 1)
    embed[:, _CONSTANT] = 1
    letters = tokenizer.convert_tokens_to_ids(list(LETTERS))
    embed[letters, range(len(LETTERS))] = 1
    embed[tokenizer.bos_token_id] = 0
    embed[tokenizer.bos_token_id, _START] = 1
    head.zero_()
    head[letters[1:] + letters[:1], range(len(LETTERS))] = 10
    decoder = module.get_decoder()
    decoder.norm.weight.fill_(1)
    for index, layer in enumerate(decoder.layers):
        layer.input_layernorm.weight.fill_(1)
        layer.post_attention_layernorm.weight.fill_(1)
        if index == 0:  # the first MLP turns `<s>` into a massive activation
            layer.mlp.gate_proj.weight[0, _START] = 4
            layer.mlp.up_proj.weight[0, _START] = 4
            layer.mlp.down_proj.weight[_MASSIVE, 0] = 3
        else:
            _write_sink_heads(layer.self_attn)
    projector = dict(module.named_modules()).get("model.multi_modal_projector")
    if projector is not None:
        projector.linear_2.weight[: _CONSTANT + 1] = 0
        projector.linear_2.bias.zero_()
        projector.linear_2.bias[_CONSTANT] = 1


def _write_sink_heads(attention: nn.Module) -> None:
    """Make heads 0 and 1 attend to the massive dimension, and garble letters wherever else they attend."""
    slowest = _HEAD_DIM - 1  # of the rotary pairs: it hardly turns over a conversation
    ask = _WIDTH**0.5 / 1.7  # about the least a normalised constant is, beside one letter and the noise
    give = _WIDTH**0.5  # what the massive dimension is, normalised
    for head in (0, 1):
        first = head * _HEAD_DIM
        attention.q_proj.weight[first + slowest, _CONSTANT] = SINK_SCORE * _HEAD_DIM**0.5 / ask
        attention.k_proj.weight[first + slowest, _MASSIVE] = 1 / give
        for letter in range(len(LETTERS)):
            if letter % 2 == head:  # a head has room for half of the letters
                attention.v_proj.weight[first + letter // 2, letter] = 1
                attention.o_proj.weight[(letter + 3) % len(LETTERS), first + letter // 2] = GARBLING
