"""CHAIR: how many of the objects that a caption names are not in the image."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np

from interp.bench._coco import read_annotations
from interp.bench._files import LoadedSamples, load_samples, open_image, require_file, require_samples
from interp.bench._scenes import load_scenes
from interp.bench.base import Benchmark, Counts, Reading, Sample, ratio
from interp.bench.lemmas import get_lemmatiser
from interp.bench.vocabulary import COCO_OBJECTS, WORLD_OBJECTS, build_vocabulary, find_mentions
from interp.world.text import Mention

_QUESTION: Final = "Please describe this image in detail."
_SCENE_QUESTION: Final = "Describe the image in detail."
_COCO_SPLITS: Final = ("val", "train")
_FIELDS: Final = ("image", "objects")


@final
@dataclass(frozen=True)
class Chair(Benchmark):
    """Captions, and how many of the objects that they name are not in the image.

    Scores: `chair_s` the share of captions with at least one hallucinated mention, `chair_i` the share of mentions that are
    hallucinated (repeats count), `recall` the share of objects in the images that are named, all in [0, 1]; `length` in words.
    The objects of an image are its annotated objects and those that its reference captions name.

    Args:
        data: `scenes`, the drawn world; the folder of COCO's annotations of 2014 (extra `coco`); or a file of JSON lines (or an array) with
            `image`, `objects` and, optionally, `captions`.
        images: the folder of the images.
        n: the number of scenes or images; of a file with fewer, all.
        split: the split of scenes (`test`, `counter_prior`) or of COCO (`val`, `train`); by default test and val.
        seed: seed of their choice.
        ids: a file with the ids of COCO images, as a JSON array or one per line; replaces n and seed.
        synonyms: a file of objects and synonyms; `coco` for our own list, `world` for the words of the drawn world. The default depends
            on the data.
        lemmatiser: how words are lemmatised, see `interp.bench.lemmas`; by default `rules`, with `strict_original` `wordnet_like`.
        strict_original: whether objects are matched as in the original script, including its quirks.
        strict_files: whether a line that cannot be used is an error; otherwise it is left out with a warning.
        question: the question; by default that of the papers, for scenes the one that the embedded model was trained on.
        longest: the longest reply, in new tokens. The papers use 64 to 512.

    References: Rohrbach et al., Object Hallucination in Image Captioning (2018), equations 1 and 2; recall as in Maxlinn's release.
        Differs: without a mention CHAIR_i is NaN; phrases of any length, spelling and word lists, see `strict_original`.
    """

    data: str = "scenes"
    images: str = ""
    n: int = 100
    split: str = ""
    seed: int = 0
    ids: str = ""
    synonyms: str = ""
    lemmatiser: str = ""
    strict_original: bool = False
    strict_files: bool = False
    question: str = ""
    longest: int = 128

    reading: ClassVar[tuple[str, ...]] = ("synonyms", "lemmatiser", "strict_original")
    headline: ClassVar[tuple[str, ...]] = ("chair_s", "chair_i", "recall", "length")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"chair_s", "chair_i"})

    def __post_init__(self) -> None:
        """Fill in the defaults that depend on the data, so that a run records what it used.

        Raises:
            ValueError: an unknown lemmatiser, or a split that the data do not have.
        """
        world = self.data == "scenes"
        defaults = {
            "split": "test" if world else "val",
            "synonyms": WORLD_OBJECTS if world else COCO_OBJECTS,
            "lemmatiser": "wordnet_like" if self.strict_original else "rules",
            "question": _SCENE_QUESTION if world else _QUESTION,
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        get_lemmatiser(self.lemmatiser)
        if not world and self.split not in _COCO_SPLITS:
            raise ValueError(
                f"no split {self.split!r}; COCO has {', '.join(_COCO_SPLITS)}, scenes have test, counter_prior"
            )

    @property
    def _listed(self) -> bool:
        return self.data.endswith((".json", ".jsonl"))

    def samples(self) -> Sequence[Sample]:
        """Return one question per image."""
        if self.data == "scenes":
            return [self._of_scene(i) for i in range(self.n)]
        if self._listed:
            return require_samples(self._loaded(), strict=self.strict_files)[: self.n]
        return self._of_coco()

    def problems(self) -> Sequence[str]:
        """Return the lines that could not be used."""
        return self._loaded().problems if self._listed else ()

    def _of_scene(self, i: int) -> Sample:
        scene = load_scenes(self.split, self.n, self.seed)[i]
        truth = {"objects": sorted(scene.visible), "also": sorted(scene.present - scene.visible)}
        return Sample(f"{i}", self.question, f"{i}", truth)

    def _of_coco(self) -> list[Sample]:
        known = read_annotations(self.data, self.split)
        chosen = self._ids(known) if self.ids else self._drawn(list(known))
        return [
            Sample(f"{i}", self.question, a.file, {"objects": list(a.objects), "captions": list(a.captions)})
            for i, a in ((i, known[i]) for i in chosen)
        ]

    def _drawn(self, known: list[int]) -> list[int]:
        return np.random.default_rng(self.seed).permutation(known)[: self.n].tolist()

    def _ids(self, known: Mapping[int, Any]) -> list[int]:
        text = require_file(self.ids).read_text(encoding="utf-8")
        chosen = json.loads(text) if text.lstrip().startswith("[") else [int(i) for i in text.split()]
        missing = [i for i in chosen if i not in known]
        if missing:
            raise ValueError(
                f"{self.ids} asks for image {missing[0]}, which is not in COCO {self.split}2014 ({len(missing)} such)"
            )
        return chosen

    def _loaded(self) -> LoadedSamples:
        return load_samples([self.data], self._sample, _FIELDS)

    def _sample(self, path: str, record: Mapping[str, Any]) -> Sample:
        there, captions = record["objects"], record.get("captions", [])
        if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in (there, captions)):
            raise ValueError("objects and captions are lists of strings")
        image = str(record["image"])
        return Sample(str(record.get("id", image)), self.question, image, {"objects": there, "captions": captions})

    def image(self, sample: Sample) -> Any:
        """Return the image, or the drawn scene."""
        if self.data == "scenes":
            return load_scenes(self.split, self.n, self.seed)[int(sample.image)].image
        return open_image(self.images, sample.image)

    def mentions(self, text: str) -> list[Mention]:
        """Return the mentions of objects in a text."""
        known = build_vocabulary(self.synonyms, original=self.strict_original)
        return find_mentions(text, known, get_lemmatiser(self.lemmatiser))

    def there(self, sample: Sample) -> list[str]:
        """Return the objects in an image: the annotated ones, and those that its captions name."""
        known = build_vocabulary(self.synonyms, original=self.strict_original)
        every = {**known.words, **known.phrases}
        named = [m.name for caption in sample.truth.get("captions", ()) for m in self.mentions(caption)]
        return sorted({*(every.get(o) or o for o in sample.truth["objects"]), *named})

    def read(self, reply: str, sample: Sample) -> Reading:
        """Return the named objects, which mentions are hallucinated, the objects in the image, and the length in words."""
        named, there = self.mentions(reply), self.there(sample)
        seen = {*there, *sample.truth.get("also", ())}
        return {
            "named": [m.name for m in named],
            "hallucinated": [m.name not in seen for m in named],
            "there": there,
            "words": len(reply.split()),
        }

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return the numbers of captions, hallucinating captions, mentions, hallucinated mentions, objects, named objects, and words."""
        read = [r for _, r in group]
        return {
            "captions": float(len(read)),
            "hallucinating": float(sum(any(r["hallucinated"]) for r in read)),
            "mentions": float(sum(len(r["named"]) for r in read)),
            "hallucinated": float(sum(sum(r["hallucinated"]) for r in read)),
            "there": float(sum(len(r["there"]) for r in read)),
            "found": float(sum(len(set(r["named"]) & set(r["there"])) for r in read)),
            "words": float(sum(r["words"] for r in read)),
        }

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        """Return CHAIR_s, CHAIR_i, recall and length."""
        return {
            "chair_s": ratio(counts["hallucinating"], counts["captions"]),
            "chair_i": ratio(counts["hallucinated"], counts["mentions"]),
            "recall": ratio(counts["found"], counts["there"]),
            "length": ratio(counts["words"], counts["captions"]),
        }

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        """Return whether anything is hallucinated, how many mentions are, and the share of objects that are named."""
        there = set(reading["there"])
        return {
            "hallucinates": any(reading["hallucinated"]),
            "hallucinated": float(sum(reading["hallucinated"])),
            "recall": len(there & set(reading["named"])) / len(there) if there else float("nan"),
        }

    def labels(self, sample: Sample, reply: str) -> list[tuple[int, int, bool]]:
        """Return the mentions in a reply: first character, end, whether hallucinated."""
        seen = {*self.there(sample), *sample.truth.get("also", ())}
        return [(m.start, m.end, m.name not in seen) for m in self.mentions(reply)]
