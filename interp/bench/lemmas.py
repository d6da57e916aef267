"""Lemmatisers: words reduced to the form that a list of objects has. Published scores use different ones, so every score names its own."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from interp.registry import nearest

Lemmatiser = Callable[[str], str]
"""Takes a word in lower case and returns its lemma."""

_IRREGULAR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "people": "person",
        "children": "child",
        "oxen": "ox",
        "mice": "mouse",
        "geese": "goose",
        "feet": "foot",
        "teeth": "tooth",
        "buses": "bus",
        "busses": "bus",
        "gases": "gas",
        "lenses": "lens",
        "tvs": "tv",
        "knives": "knife",
        "wives": "wife",
        "lives": "life",
        "wolves": "wolf",
        "calves": "calf",
        "halves": "half",
        "leaves": "leaf",
        "loaves": "loaf",
        "shelves": "shelf",
        "thieves": "thief",
        "hooves": "hoof",
        "scarves": "scarf",
        "axes": "axe",
        "aches": "ache",
        "taxis": "taxi",
        "skis": "ski",
        "heroes": "hero",
        "potatoes": "potato",
        "tomatoes": "tomato",
        "mangoes": "mango",
        "buffaloes": "buffalo",
    }
)
_INVARIANT: Final = (
    *("scissors", "trousers", "pants", "jeans", "shorts", "sunglasses", "goggles", "series", "species"),
    *("news", "canvas", "lens", "christmas", "atlas", "perhaps", "always", "sometimes", "besides", "does", "goes"),
)
"""Words that end in s but are not plurals, or have no singular."""
_IN_IE: Final = (
    *("brownie", "collie", "cookie", "die", "doggie", "hoodie", "lie", "movie", "necktie", "pie", "rookie", "selfie"),
    *("smoothie", "tie", "veggie", "zombie", "bowtie", "birdie"),
)
_VERBS: Final = ("bear", "bike", "boat", "bottle", "bow", "bowl", "cup", "seat", "sink", "ski", "snowboard", "tie")
"""Objects that are also verbs; WordNet reduces the verb's other forms to them."""


def rules(word: str) -> str:
    """Return the singular of an English noun by its ending; other words unchanged.

    The lists of exceptions cover the words that describe images.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("men"):
        return word.removesuffix("men") + "man"
    if word in _INVARIANT or len(word) < 4 or word.endswith(("ss", "us", "is", "'s")):
        return word
    if word.endswith("ies"):
        return word[:-1] if word[:-1] in _IN_IE else word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    return word.removesuffix("s")


def wordnet_like(word: str) -> str:
    """Return the lemma that NLTK's tagger and WordNet lemmatiser give a word, approximately, for the objects of COCO.

    It differs from `rules` where WordNet does: "men" is an entry of its own and stays, and the forms of a verb are reduced to it
    ("skiing" to "ski", "seated" to "seat"). The tagger uses the sentence; this function sees one word.
    """
    if word == "men":
        return word
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word:
            forms = (stem, stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem)
            return next((f for f in forms if f in _VERBS), word)
    return rules(word)


def inflect(word: str) -> str:
    """Return the singular of a noun by the library inflect; a word that it does not recognise as a plural stays."""
    return _inflect().singular_noun(word) or word if word.isalpha() else word


def pattern(word: str) -> str:
    """Return the singular of a noun by the rules of pattern.en, which the original CHAIR used; textblob contains them."""
    return str(_library("textblob.en.inflect", "textblob").singularize(word))


def simplemma(word: str) -> str:
    """Return the lemma of a word by the library simplemma."""
    return str(_library("simplemma", "simplemma").lemmatize(word, lang="en"))


@cache
def _inflect() -> Any:
    return _library("inflect", "inflect").engine()


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'this lemmatiser needs {package}: pip install "interp[lemmas]", or use the lemmatiser rules, which needs no package'
        ) from error


LEMMATISERS: Final[Mapping[str, Lemmatiser]] = MappingProxyType(
    {"rules": rules, "wordnet_like": wordnet_like, "inflect": inflect, "pattern": pattern, "simplemma": simplemma}
)
"""The lemmatisers by name."""


def get_lemmatiser(name: str) -> Lemmatiser:
    """Return the lemmatiser of a name.

    Raises:
        ValueError: no such lemmatiser; lists the known ones.
    """
    if name not in LEMMATISERS:
        raise ValueError(f"no lemmatiser {name!r}{nearest(name, LEMMATISERS)}; lemmatisers: {', '.join(LEMMATISERS)}")
    return LEMMATISERS[name]
