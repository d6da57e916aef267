"""The objects that a text names: vocabularies of words and phrases, and the mentions of their objects in a text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from typing import Final, final

from interp.bench._files import require_file
from interp.bench.lemmas import Lemmatiser
from interp.world.objects import PLURALS
from interp.world.text import Mention

COCO_OBJECTS: Final = "coco"
WORLD_OBJECTS: Final = "world"
_ANIMALS: Final = (
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub"),
)
_MERGED: Final = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
    "passenger jet": "jet",
    "passenger train": "train",
    "bow tie": "tie",
    "toilet seat": "toilet",
}
"""Pairs of words that name the object of one of them: a "baby elephant" is not a baby."""
_NO_OBJECT: Final = ("home plate", "train track")
"""Pairs of words that do not name the object of either of them."""
_WORD: Final = re.compile(r"\w+(?:-\w+)*|'\w+|[^\w\s]")


@final
@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words and phrases with the objects that they name.

    Args:
        words: the object of every word.
        phrases: the object of several consecutive words; empty where they name none.
        original: whether phrases are two consecutive lemmas and words are looked up by their lemma only, as in the original CHAIR;
            otherwise phrases can be longer, and a word is also looked up unchanged.
    """

    words: Mapping[str, str]
    phrases: Mapping[str, str]
    original: bool = False

    @property
    def objects(self) -> list[str]:
        """The objects."""
        return [o for o in dict.fromkeys([*self.words.values(), *self.phrases.values()]) if o]


def _read_rows(path: str) -> list[str]:
    """Return the rows of a file of objects: one object per line, followed by its synonyms, separated by commas.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file names no object.
    """
    source = files("interp.bench") / "coco_objects.txt" if path == COCO_OBJECTS else require_file(path)
    rows = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    if not rows:
        raise ValueError(f"{path} names no object; a line is an object and its synonyms, separated by commas")
    return rows


@lru_cache(maxsize=8)
def build_vocabulary(source: str, *, original: bool = False) -> Vocabulary:
    """Return the vocabulary of a file, of our own list for the 80 objects of COCO (`coco`), or of the drawn world (`world`).

    A line that starts with "- " lists phrases that name no object, although one of their words may.

    Args:
        source: the file, `coco` or `world`.
        original: whether to read it as the original CHAIR does: entries keep their blanks and capitals, so those entries never match,
            and only phrases of two words do.
    """
    rows = [f"{one}, {many}" for one, many in PLURALS.items()] if source == WORLD_OBJECTS else _read_rows(source)
    return _original(rows) if original else _lenient(rows)


def _original(rows: Iterable[str]) -> Vocabulary:
    split = [row.strip().split(", ") for row in rows if not row.startswith("- ")]
    words = {word: row[0] for row in split for word in row}
    merged = {**{w.strip(): w.strip() for w in words if " " in w.strip()}, **_MERGED, **dict.fromkeys(_NO_OBJECT, "")}
    phrases = {phrase: words.get(to, "") for phrase, to in {**merged, "wine glas": "wine glass"}.items()}
    return Vocabulary(words, phrases, original=True)


def _lenient(rows: Sequence[str]) -> Vocabulary:
    split = [[w.strip().lower() for w in row.removeprefix("- ").split(",")] for row in rows]
    named = {w: row[0] for row, line in zip(split, rows, strict=True) if not line.startswith("- ") for w in row if w}
    nothing = chain(_NO_OBJECT, *(row for row, line in zip(split, rows, strict=True) if line.startswith("- ")))
    merged = {phrase: named[to] for phrase, to in _MERGED.items() if to in named}
    phrases = {**merged, **{w: o for w, o in named.items() if " " in w}, **dict.fromkeys(nothing, "")}
    return Vocabulary({w: o for w, o in named.items() if " " not in w}, phrases)


def find_mentions(text: str, known: Vocabulary, lemma: Lemmatiser) -> list[Mention]:
    """Return the mentions of objects in a text, in order, including repeats."""
    found = list(_WORD.finditer(text.lower()))
    words = [m.group() for m in found]
    lemmas = [lemma(w) for w in words]
    longest = 2 if known.original else max((p.count(" ") + 1 for p in known.phrases), default=1)
    named: list[tuple[Mention, str]] = []
    at = 0
    while at < len(words):
        sizes = range(min(longest, len(words) - at), 1, -1)
        size = next((n for n in sizes if _phrase(words, lemmas, at, n, known) is not None), 1)
        said = lemmas[at] if size == 1 else " ".join(lemmas[at : at + size])
        name = _word(words[at], lemmas[at], known) if size == 1 else _phrase(words, lemmas, at, size, known)
        if name:
            named.append((Mention(name, found[at].start(), found[at + size - 1].end()), said))
        at += size
    return [m for m, said in named if not (known.original and said == "seat" and _toilet(named))]


def _toilet(named: Iterable[tuple[Mention, str]]) -> bool:
    return any(said in ("toilet", "toilet seat") for _, said in named)


def _word(word: str, lemma: str, known: Vocabulary) -> str:
    if known.original:
        return known.words.get(lemma, "")
    spaced = word.replace("-", " ")
    return known.words.get(word) or known.words.get(lemma) or known.phrases.get(spaced, "")


def _phrase(words: Sequence[str], lemmas: Sequence[str], at: int, size: int, known: Vocabulary) -> str | None:
    """Return the object of several consecutive words; None where they are not a phrase."""
    forms = [" ".join(lemmas[at : at + size])]
    if not known.original:
        plain = words[at : at + size]
        forms = [" ".join(plain), " ".join([*plain[:-1], lemmas[at + size - 1]]), *forms]
    return next((known.phrases[f] for f in forms if f in known.phrases), None)
