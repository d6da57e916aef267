"""A tokenizer for the tiny models: every byte is a token, so any text survives a round trip. Nothing is downloaded."""

from collections.abc import Sequence
from typing import Any


def small_tokenizer(special: Sequence[str] = (), *, add_bos: bool = False, **named: str) -> Any:
    """Return a byte-level tokenizer that pads on the left.

    Ids 0 to 3 are `<pad>`, `<s>`, `</s>` and `<unk>`, the special tokens follow in the order given, then the 256 bytes.

    Args:
        special: strings that are one token each.
        add_bos: whether every encoded text begins with `<s>`, as Llama's and Gemma's do.
        named: more special tokens that the tokenizer also has as attributes (`image_token="<image>"`), as many processors
            require; `bos_token`, `eos_token`, `pad_token` and `unk_token` replace the first four.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    basic = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    basic |= {name: named.pop(name) for name in basic if name in named}
    first = dict.fromkeys([*basic.values(), *special, *named.values()])
    words = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(
        models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token=basic["unk_token"])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(first))
    if add_bos:
        bos = basic["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, words.index(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        additional_special_tokens=list(special),
        extra_special_tokens=named,
        **basic,
    )
