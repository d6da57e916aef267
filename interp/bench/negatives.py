"""POPE questions for any images whose objects are known, with the three ways of choosing absent objects."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict, final

import numpy as np

from interp.data.storage import write_text
from interp.registry import nearest
from interp.world.text import with_article

_KINDS: Final = ("random", "popular", "adversarial")


@final
class PopeRecord(TypedDict):
    """One question, in the format of the official files."""

    question_id: int
    image: str
    text: str
    label: str


def build_questions(
    annotations: Mapping[str, Collection[str]], kind: str, *, per_image: int = 3, seed: int = 0
) -> list[PopeRecord]:
    """Return equally many questions about present and absent objects, image by image.

    From every image with at least `per_image` objects, `per_image` are drawn. Each is paired with an absent object that was not used for
    this image yet: any (`random`), the one in most images (`popular`), or the one that occurs most often together with the drawn object
    (`adversarial`). Ties go to the first in alphabetical order. Images with fewer objects are left out, as are pairs without any absent
    object. The present objects are the same for all three kinds.

    Args:
        annotations: the objects of every image, by the name of the image.
        kind: how absent objects are chosen.
        per_image: the number of questions with each answer per image.
        seed: seed of the draws.

    Raises:
        ValueError: an unknown kind, `per_image` below 1, or no image with enough objects.

    References: Li et al., Evaluating Object Hallucination in Large Vision-Language Models (2023), section 5. Differs: all
        images are used, in the given order; the release draws 500.
    """
    if kind not in _KINDS:
        raise ValueError(f"no kind {kind!r}{nearest(kind, _KINDS)}; kinds: {', '.join(_KINDS)}")
    if per_image < 1:
        raise ValueError(f"per_image is at least 1, got {per_image}")
    objects = {image: sorted(set(there)) for image, there in annotations.items()}
    if not any(len(there) >= per_image for there in objects.values()):
        raise ValueError(f"no image has {per_image} objects; give annotations with more, or a smaller per_image")
    pairs = _pairs(objects, kind, per_image, seed)
    questions = [(image, *q) for image, there, absent in pairs for q in ((there, "yes"), (absent, "no"))]
    return [
        PopeRecord(question_id=i, image=image, text=f"Is there {with_article(name)} in the image?", label=label)
        for i, (image, name, label) in enumerate(questions, 1)
    ]


def write_questions(path: str | Path, questions: Sequence[PopeRecord]) -> Path:
    """Write questions as JSON lines, atomically."""
    return write_text(path, "".join(f"{json.dumps(q)}\n" for q in questions))


def _pairs(
    objects: Mapping[str, Sequence[str]], kind: str, per_image: int, seed: int
) -> Iterator[tuple[str, str, str]]:
    """Yield images, each with a present and an absent object."""
    there_of, chance = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    popular = Counter(name for there in objects.values() for name in there)
    together = _together(objects) if kind == "adversarial" else {}
    for image, there in objects.items():
        if len(there) < per_image:
            continue
        taken = set(there)
        for name in there_of.permutation(there)[:per_image].tolist():
            left = sorted(set(popular) - taken)
            if not left:
                break
            common = together.get(name, popular)
            absent = left[chance.integers(len(left))] if kind == "random" else min(left, key=lambda o: (-common[o], o))
            taken.add(absent)
            yield image, name, absent


def _together(objects: Mapping[str, Sequence[str]]) -> dict[str, Counter[str]]:
    """Return in how many images each pair of objects occurs together."""
    pairs: dict[str, Counter[str]] = {}
    for there in objects.values():
        for name in there:
            pairs.setdefault(name, Counter()).update(there)
    return pairs
