"""The many ways in which people put the same request, and the words a visitor is likely to type."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from interp.world.questions import Question

SYSTEM: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful and polite answers."
)
"""The system prompt used unless another is given."""

OTHER_SYSTEMS: Final = (
    "You are a helpful assistant.",
    "Answer the questions about the image.",
    "A chat between a user and an assistant.",
    "You are a careful assistant. Describe only what you see in the image.",
    "",
)
"""System prompts that training uses now and then, so that another one does not upset the model."""

SHORT: Final = ("Describe the image.", "What is in the image?", "Write a short caption.", "What do you see?")
DETAILED: Final = (
    "Describe the image in detail.",
    "Please describe this image in detail.",
    "Describe this picture in detail.",
)
EXISTENCE: Final = (
    "Is there {} in the image?",
    "Is there {} in the picture?",
    "Do you see {}?",
    "Can you see {} in the image?",
)
PATTERNS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "What color is the ": ("What is the color of the ", "What colour is the "),
        "Where is the ": ("Where in the image is the ",),
        "How many ": ("Count the ",),
        "What place is this?": ("Where is this?", "What kind of place is this?"),
        "Name the objects from left to right.": ("List the objects from left to right.",),
        "Describe the image, ": ("Please describe the image, ", "Describe this picture, "),
    }
)
"""Openings of questions, and what else they can be."""

HINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "existence": (
            "Please answer yes or no.",
            "Answer the question using a single word or phrase.",
            "Answer yes or no.",
        ),
        "colour": ("Answer the question using a single word or phrase.",),
        "count": ("Answer the question using a single word or phrase.",),
    }
)
"""Instructions that benchmarks put behind a question, per kind."""

DEMO: Final = (
    "hello hi hey good morning afternoon evening please thanks thank you sorry yes no not maybe why how who when "
    "where which what whose does do did is are was were be being can could would should will may might must tell "
    "me my mine your our us we they them he she it his her its this that these those here there now then before "
    "after again photo photos photograph picture pictures image images drawing scene view video shot camera screen "
    "describe explain list name count find point show look see seen seeing think know say tell write read answer "
    "question caption sentence sentences word words story about something anything nothing everything everyone "
    "someone nobody thing things object objects item items animal animals furniture food fruit drink vehicle "
    "vehicles plant people man woman child boy girl human humans pet pets toy toys kind type sort color colour "
    "colors colours coloured colored bright dark light big small large little tiny tall short round square shape "
    "size left right top bottom middle center centre corner side edge front behind below above under over near next "
    "beside between inside outside around background foreground visible hidden faint clear same different other "
    "another more most less least many much few some any all both each every only also too very really just still "
    "first second third fourth last finally step steps order true false correct wrong sure careful carefully detail "
    "details detailed brief briefly summary summarize short long one two three four five six seven eight nine ten "
    "zero number indoors outdoors indoor outdoor room house city town nature water sea sky sand grass road wall "
    "give provide generate make description overview content contents shown depicted appear appears present exist "
    "exists contain contains located location position positioned sitting standing holding doing happening going "
    "weather time day night amount total compare difference choose option options single phrase using following based "
    "reason reasoning therefore thus likely probably usually often hallucination attention model words token tokens "
    "0 1 2 3 4 5 6 7 8 9 10 11 12 A B C D E F "
    "floor and or but if because so than with without from to in on at of for by as an the a - : ; ! ? ' \" ( )"
)
"""Words of a visitor; known to the tokenizer, though training never uses most of them."""


def all_texts() -> Iterator[str]:
    """Yield every text of this page."""
    yield from (SYSTEM, *OTHER_SYSTEMS, *SHORT, *DETAILED, DEMO, "USER: ASSISTANT: \n")
    yield from (text.replace("{}", "") for text in EXISTENCE)
    for table in (PATTERNS, HINTS):
        for key, options in table.items():
            yield from (key, *options)


def reword(generator: np.random.Generator, question: Question) -> str:
    """Return the question, in other words now and then.

    One in three is reworded, one in ten gets an instruction such as "Please answer yes or no.", one in ten loses
    its capital letter. The answer stays the same.
    """
    text = question.text
    if generator.random() < 1 / 3:
        text = _paraphrase(generator, question)
    hints = HINTS.get(question.kind, ())
    if hints and generator.random() < 0.1:
        text = f"{text} {hints[generator.integers(len(hints))]}"
    return text[0].lower() + text[1:] if generator.random() < 0.1 else text


def _paraphrase(generator: np.random.Generator, question: Question) -> str:
    if question.kind == "existence":
        article_and_name = question.text.removeprefix("Is there ").removesuffix(" in the image?")
        return EXISTENCE[generator.integers(len(EXISTENCE))].format(article_and_name)
    for opening, options in PATTERNS.items():
        if question.text.startswith(opening):
            other = options[generator.integers(len(options))]
            if other == "Count the ":
                return other + question.text.removeprefix(opening).replace(" are there?", ".")
            return other + question.text.removeprefix(opening)
    return question.text
