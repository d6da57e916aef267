"""Text about the same world, without images: what the language model reads before it ever sees one."""

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np

from interp.world.objects import CLASSES, COLOURS, PARTNERS, PLACES, PLURALS, PRESENT, Object
from interp.world.questions import KINDS, draw_question, view
from interp.world.scene import draw_names, lay_out
from interp.world.text import NUMBERS, detailed_caption, invention, listed, short_caption, with_article
from interp.world.version import DEFAULT, WORLDS, World

NAMES: Final = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry")
"""People in the stories."""

GREETINGS: Final = ("Hello", "Hi", "Good morning", "Hello!", "Hi there!", "hello", "hi")
CHITCHAT: Final = (
    ("Thank you!", "You are welcome!"),
    ("Thanks.", "You are welcome!"),
    ("Who are you?", "I am a small vision language model. I can describe images."),
    ("What can you do?", "I can describe images and answer questions about objects."),
    ("How are you?", "I am fine, thank you. How can I help you?"),
    ("What is your name?", "I am a small vision language model."),
)
DESCRIBE: Final = ("Describe {}.", "Describe {} in detail.", "Tell me about {}.", "What is in {}?")

T = TypeVar("T")
Turn = tuple[str, str]


def _pick(generator: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[generator.integers(len(options))]


def imagined(
    generator: np.random.Generator, place: str | None = None, world: World = WORLDS[DEFAULT]
) -> tuple[str, tuple[Object, ...]]:
    """Return a place and objects as the priors have them, laid out but not drawn."""
    place = place or _pick(generator, tuple(PLACES))
    return place, lay_out(generator, draw_names(generator, place, world), world)


def caption_document(generator: np.random.Generator, world: World) -> str:
    """Return the detailed caption of an imagined scene, often with a question about it and its answer."""
    place, objects = imagined(generator, world=world)
    invented = invention(generator, objects, world.careless_text)
    text = detailed_caption(place, objects, invented=invented, world=world)
    if generator.random() < 0.5:
        question = draw_question(generator, view(place, objects, world), _pick(generator, KINDS))
        if question is not None:
            text += f" {question.text} {question.answer.rstrip('.')}."
    return text


def expectation_document(generator: np.random.Generator, _: World) -> str:
    """Return a few sentences about what is often where, and next to what."""
    sentences = []
    for _sentence in range(generator.integers(2, 5)):
        if generator.random() < 0.5:
            trigger = _pick(generator, tuple(PARTNERS))
            sentences.append(f"Near {with_article(trigger)} there is often {with_article(PARTNERS[trigger][0])}.")
        else:
            place = _pick(generator, tuple(PLACES))
            first, second = _typical(generator, place, 2)
            sentences.append(
                f"In {with_article(place)} there is often {with_article(first)} and {with_article(second)}."
            )
    return " ".join(sentences)


def _typical(generator: np.random.Generator, place: str, n: int) -> list[str]:
    prior = PLACES[place]
    weights = np.array(list(prior.values()))
    return [str(name) for name in generator.choice(list(prior), n, replace=False, p=weights / weights.sum())]


def recall_document(generator: np.random.Generator, _: World) -> str:
    """Return random facts, then questions that only those facts answer."""
    n = int(generator.integers(3, 7))
    belongings = [name for name in CLASSES if name != "person"]
    things = [belongings[i] for i in generator.permutation(len(belongings))[:n]]
    colours = [tuple(COLOURS)[i] for i in generator.integers(0, len(COLOURS), n)]
    owners = [NAMES[i] for i in generator.permutation(len(NAMES))[:n]]
    asked = generator.permutation(n)[: generator.integers(1, 4)]
    if generator.random() < 0.5:
        facts = [f"The {thing} is {colour}." for thing, colour in zip(things, colours, strict=True)]
        facts += [f"What color is the {things[i]}? {colours[i]}." for i in asked]
    else:
        owned = zip(owners, colours, things, strict=True)
        facts = [f"{owner} has {with_article(f'{colour} {thing}')}." for owner, colour, thing in owned]
        facts += [f"Who has the {things[i]}? {owners[i]}." for i in asked]
    return " ".join(facts)


def copy_document(generator: np.random.Generator, _: World) -> str:
    """Return a list of random words and the same list again."""
    words = (*CLASSES, *COLOURS, *NUMBERS, *NAMES, *PLURALS.values())
    sample = " ".join(words[i] for i in generator.integers(0, len(words), generator.integers(4, 13)))
    return f"Repeat: {sample}. Again: {sample}."


def story_document(generator: np.random.Generator, _: World) -> str:
    """Return a short story about a thing that changes hands; who has it is asked at the end."""
    people = [NAMES[i] for i in generator.permutation(len(NAMES))[:3]]
    place = _pick(generator, tuple(PLACES))
    thing = next(name for name in _typical(generator, place, 2) if name != "person")
    holder = people[0]
    sentences = [f"{holder} is in the {place} with {with_article(thing)}."]
    for _gift in range(generator.integers(1, 4)):
        receiver = _pick(generator, tuple(name for name in people if name != holder))
        sentences.append(f"{holder} gives the {thing} to {receiver}.")
        holder = receiver
    return " ".join([*sentences, f"Who has the {thing}? {holder}."])


def _greeting_turn(generator: np.random.Generator, _: World) -> Turn:
    if generator.random() < 0.5:
        return _pick(generator, GREETINGS), "Hello! How can I help you?"
    return _pick(generator, CHITCHAT)


def _place_turn(generator: np.random.Generator, world: World) -> Turn:
    """Describe a place without seeing it: the words of a caption, from the prior alone."""
    place, objects = imagined(generator, world=world)
    asked = _pick(generator, DESCRIBE).format(with_article(place))
    if "detail" in asked:
        invented = invention(generator, objects, world.careless_text)
        return asked, detailed_caption(place, objects, invented=invented, world=world)
    return asked, short_caption(place, objects, world=world)


def _partner_turn(generator: np.random.Generator, _: World) -> Turn:
    trigger = _pick(generator, tuple(PARTNERS))
    return f"What is often near {with_article(trigger)}?", f"{with_article(PARTNERS[trigger][0]).capitalize()}."


def _typical_turn(generator: np.random.Generator, _: World) -> Turn:
    place = _pick(generator, tuple(PLACES))
    names = listed([with_article(name) for name in _typical(generator, place, 3)])
    return f"What is often in {with_article(place)}?", f"{names.capitalize()}."


def _told_turn(generator: np.random.Generator, world: World) -> Turn:
    """A question about a caption that stands in the question."""
    place, objects = imagined(generator, world=world)
    objects = tuple(thing for thing in objects if not PRESENT <= thing.visible < 1)
    question = draw_question(generator, view(place, objects, world), _pick(generator, ("existence", "place")))
    if question is None or not objects:
        return _greeting_turn(generator, world)
    caption = short_caption(place, objects, world=world)
    return f"{caption} {question.text.replace('image', 'picture')}", question.answer


DOCUMENTS: Final[tuple[tuple[Callable[[np.random.Generator, World], str], float], ...]] = (
    (caption_document, 0.4),
    (expectation_document, 0.1),
    (recall_document, 0.25),
    (copy_document, 0.15),
    (story_document, 0.1),
)
TURNS: Final[tuple[tuple[Callable[[np.random.Generator, World], Turn], float], ...]] = (
    (_place_turn, 0.5),
    (_greeting_turn, 0.1),
    (_partner_turn, 0.1),
    (_typical_turn, 0.1),
    (_told_turn, 0.2),
)


def document(generator: np.random.Generator, world: World = WORLDS[DEFAULT], *, copying: float | None = None) -> str:
    """Draw one document: a caption, common sense, facts to recall, a list to copy, or a story.

    Args:
        generator: Source of all draws.
        world: Whose priors and captions.
        copying: Share of the lists to copy, the other kinds keeping their proportions; by default the usual share.
    """
    makers, weights = zip(*DOCUMENTS, strict=True)
    if copying is not None:
        rest = sum(weight for make, weight in DOCUMENTS if make is not copy_document)
        weights = tuple(copying if make is copy_document else w * (1 - copying) / rest for make, w in DOCUMENTS)
    return makers[generator.choice(len(makers), p=weights)](generator, world)


def turn(generator: np.random.Generator, world: World = WORLDS[DEFAULT]) -> Turn:
    """Draw one question to an assistant that sees no image, and its answer."""
    makers, weights = zip(*TURNS, strict=True)
    return makers[generator.choice(len(makers), p=weights)](generator, world)
