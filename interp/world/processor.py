"""Words to tokens and images to pixels: the tokenizer, the processor, and the chat they are used with."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from interp.world import corpus, wording
from interp.world.objects import CLASSES, COLOURS, IMAGE_SIZE, PLACES, PLURALS
from interp.world.questions import all_questions
from interp.world.scene import scenes
from interp.world.text import NUMBERS, ORDINALS

PATCH_SIZE: Final = 8
IMAGE_TOKENS: Final = (IMAGE_SIZE // PATCH_SIZE) ** 2
CONTEXT: Final = 512
WORD: Final = r"\n|\w+|[^\w\s]"
SPECIAL: Final = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
SAMPLED: Final = 200
"""Documents, turns and scenes whose words enter the vocabulary, besides the listed ones."""

CHAT_TEMPLATE: Final = (
    "{%- macro words(content) -%}"
    "{%- if content is string -%}{{ content }}{%- else -%}"
    "{%- for part in content if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}"
    "{%- for part in content if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}"
    "{%- set system = '" + wording.SYSTEM + "' -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- set system = words(messages[0]['content']) -%}{%- endif -%}"
    "{%- if system -%}{{ system ~ ' ' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ 'USER: ' ~ words(message['content']) ~ ' ' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ 'ASSISTANT: ' ~ words(message['content']) ~ '</s>' }}"
    "{%- elif not loop.first or message['role'] != 'system' -%}"
    "{{ raise_exception('roles are user, assistant, and system for the first message') }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)
"""LLaVA-1.5's conversation: the system prompt (or the one given), then USER and ASSISTANT in turn."""


def chat(turns: Sequence[tuple[str, str]], system: str = wording.SYSTEM) -> str:
    """Return a finished conversation as the chat template writes it."""
    said = "".join(f"USER: {asked} ASSISTANT: {answer}</s>" for asked, answer in turns)
    return f"{system} {said}" if system else said


@cache
def vocabulary() -> tuple[str, ...]:
    """Return every token: the special ones, then all words of the world and of the demo, sorted."""
    generator = np.random.default_rng(0)
    texts = [*wording.all_texts(), *CLASSES, *PLURALS.values(), *COLOURS, *PLACES, *NUMBERS, *ORDINALS]
    texts += [*corpus.NAMES, *corpus.GREETINGS, *(ask.format("") for ask in corpus.DESCRIBE)]
    texts += [*(f"{ask} {say}" for ask, say in corpus.CHITCHAT)]
    texts += [corpus.document(generator) for _ in range(SAMPLED)]
    texts += [" ".join(corpus.turn(generator)) for _ in range(SAMPLED)]
    for scene in scenes("train", SAMPLED, seed=1):
        asked = all_questions(scene.place, scene.objects, seed=0)
        texts += [*scene.captions.values(), *(f"{question.text} {question.answer}" for question in asked)]
    found = {word for text in texts for word in re.findall(WORD, text)}
    cased = {word.lower() for word in found} | {word.capitalize() for word in found if not word.isupper()}
    return (*SPECIAL, *sorted(found | cased))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer: a word, a punctuation mark or a line break is a token."""
    inner = Tokenizer(models.WordLevel({token: index for index, token in enumerate(vocabulary())}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_processor() -> LlavaProcessor:
    """Return the processor: tokenizer, image processor and chat template."""
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessorPil(
        size=square, crop_size=square, do_resize=True, do_center_crop=False, do_convert_rgb=True
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
