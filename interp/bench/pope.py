"""POPE: yes-or-no questions about whether an object is in the image."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

import numpy as np

from interp.bench._files import LoadedSamples, load_samples, open_image, require_samples
from interp.bench._scenes import load_scenes
from interp.bench.base import Benchmark, Counts, Reading, Sample, ratio
from interp.bench.parsers import get_parser, strict
from interp.registry import nearest

SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vcd": " Please answer this question with one word.",
        "clearsight": " Please just answer yes or no.",
        "llava": "\nAnswer the question using a single word or phrase.",
    }
)
"""The texts that published evaluations append to the question, by name; SGRS uses that of ClearSight."""
_ORDER: Final = ("random", "popular", "adversarial")
_FIELDS: Final = ("question_id", "image", "text", "label")


@final
@dataclass(frozen=True)
class Pope(Benchmark):
    """Yes-or-no questions about the presence of an object; half of them ask about a present one.

    Absent objects are chosen at random, from the most frequent objects (popular), or from those that often occur with the present ones
    (adversarial); each choice is a part. `yes` is the positive class. Scores in [0, 1]: `accuracy`, `precision`, `recall`, `f1`,
    `yes_ratio` the share of replies read as yes, and `invalid` the share of replies whose first word is neither yes nor no, whatever the
    parser returns for them. A reply that the parser cannot read counts as wrong. The total is the unweighted mean of the parts.

    Args:
        data: `scenes`, the questions about drawn scenes; or one or more official files, as JSON lines or as an array.
        images: the folder of the images.
        parts: the name of the part for each file; by default its name without "pope", such as "coco random".
        n: the number of scenes.
        split: the split of the scenes (`test`, `counter_prior`).
        seed: seed of the scenes.
        parser: how replies are read, see `interp.bench.parsers`.
        suffix: the text after the question: the name of a published one (`vcd`, `clearsight`, `llava`), or text.
        strict_files: whether a line that cannot be used is an error; otherwise it is left out with a warning.
        longest: the longest reply, in new tokens.

    References: Li et al., Evaluating Object Hallucination in Large Vision-Language Models (2023). Differs: a score without cases is
        NaN, and invalid replies are counted.
    """

    data: str | tuple[str, ...] = "scenes"
    images: str = ""
    parts: tuple[str, ...] = ()
    n: int = 100
    split: str = "test"
    seed: int = 0
    parser: str = "strict"
    suffix: str = ""
    strict_files: bool = False
    longest: int = 16

    headline: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "yes_ratio", "invalid")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"invalid"})

    def __post_init__(self) -> None:
        """Refuse unknown settings.

        Raises:
            ValueError: an unknown parser or suffix, or another number of parts than files.
        """
        get_parser(self.parser)
        if self.suffix and self.suffix not in SUFFIXES and not any(c.isspace() for c in self.suffix):
            raise ValueError(
                f"no suffix {self.suffix!r}{nearest(self.suffix, SUFFIXES)}; suffixes: {', '.join(SUFFIXES)}, or a text with a blank"
            )
        if self.parts and len(self.parts) != len(self.files):
            raise ValueError(f"parts needs one name per file: {len(self.files)} files, {len(self.parts)} parts")

    @property
    def files(self) -> tuple[str, ...]:
        """The files; none for drawn scenes."""
        given = (self.data,) if isinstance(self.data, str) else self.data
        return () if given == ("scenes",) else given

    def samples(self) -> Sequence[Sample]:
        """Return the questions, part by part."""
        return require_samples(self._loaded(), strict=self.strict_files) if self.files else self._from_scenes()

    def problems(self) -> Sequence[str]:
        """Return the lines that could not be used."""
        return self._loaded().problems

    def _loaded(self) -> LoadedSamples:
        parts = dict(zip(self.files, self.parts or map(name_part, self.files), strict=True))
        return load_samples(self.files, lambda path, record: self._sample(parts[path], record), _FIELDS)

    def _sample(self, part: str, record: Mapping[str, Any]) -> Sample:
        truth = str(record["label"]).strip().lower()
        if truth not in ("yes", "no"):
            raise ValueError(f"the label is yes or no, got {record['label']!r}")
        image = str(record["image"])
        return Sample(
            f"{part}/{record['question_id']}", self._asked(record["text"]), image, {"answer": truth}, part, image
        )

    def _asked(self, question: str) -> str:
        return question + SUFFIXES.get(self.suffix, self.suffix)

    def _from_scenes(self) -> list[Sample]:
        asked = [
            (q, i)
            for i, scene in enumerate(load_scenes(self.split, self.n, self.seed))
            for q in scene.questions
            if q.kind == "existence"
        ]
        return [
            Sample(
                f"{q.probe}/{i}/{q.subject}", self._asked(q.text), f"{i}", {"answer": q.answer.lower()}, q.probe, f"{i}"
            )
            for q, i in sorted(asked, key=lambda pair: _ORDER.index(pair[0].probe))
        ]

    def image(self, sample: Sample) -> Any:
        """Return the image, or the drawn scene."""
        if self.files:
            return open_image(self.images, sample.image)
        return load_scenes(self.split, self.n, self.seed)[int(sample.image)].image

    def read(self, reply: str, sample: Sample) -> Reading:
        """Return the answer as the parser reads it, and whether the first word is yes or no."""
        said = get_parser(self.parser)(reply, sample.truth["answer"])
        return {"said": said, "valid": bool(strict(reply))}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return the numbers of questions, questions with the answer yes, true and false yes, true no, and invalid replies."""
        pairs = Counter((s.truth["answer"], r["said"]) for s, r in group)
        return {
            "questions": float(len(group)),
            "positive": float(sum(s.truth["answer"] == "yes" for s, _ in group)),
            "true_yes": float(pairs["yes", "yes"]),
            "false_yes": float(pairs["no", "yes"]),
            "true_no": float(pairs["no", "no"]),
            "invalid": float(sum(not r["valid"] for _, r in group)),
        }

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        """Return accuracy, precision, recall, F1, and the shares of yes and of invalid replies."""
        n, hits, yes = counts["questions"], counts["true_yes"], counts["true_yes"] + counts["false_yes"]
        return {
            "accuracy": ratio(hits + counts["true_no"], n),
            "precision": ratio(hits, yes),
            "recall": ratio(hits, counts["positive"]),
            "f1": ratio(2 * hits, yes + counts["positive"]),
            "yes_ratio": ratio(yes, n),
            "invalid": ratio(counts["invalid"], n),
        }

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        """Return whether the answer is correct."""
        return {"right": reading["said"] == sample.truth["answer"]}


def name_part(path: str) -> str:
    """Return the name of a file as words, without "pope": "coco random" for coco_pope_random.json."""
    words = Path(path).stem.replace("-", "_").split("_")
    return " ".join(w for w in words if w.lower() != "pope") or Path(path).stem
