"""MME: two questions about every image, one with the answer yes and one with the answer no."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, final

import numpy as np

from interp.bench._files import LoadedSamples, open_image, require_samples
from interp.bench._mme_scenes import scene_questions
from interp.bench._scenes import load_scenes
from interp.bench.base import Benchmark, Counts, Reading, Sample, ratio
from interp.bench.parsers import get_parser, strict
from interp.registry import nearest

_HALLUCINATION: Final = ("existence", "count", "position", "color")
_PERCEPTION: Final = (*_HALLUCINATION, "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
_COGNITION: Final = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_TASKS: Final = (*_PERCEPTION, *_COGNITION)
_SUMS: Final = {"hallucination": _HALLUCINATION, "perception": _PERCEPTION, "cognition": _COGNITION}
_PICTURES: Final = (".jpg", ".jpeg", ".png")


@final
@dataclass(frozen=True)
class Mme(Benchmark):
    """Yes-or-no questions of fourteen tasks, each a part; a pair of opposite questions about every image.

    Scores of a task: `accuracy` the share of correct answers, `accuracy_plus` the share of images with both questions correct, both in
    [0, 1], `score` 100 times their sum, in [0, 200], and `invalid` the share of replies whose first word is neither yes nor no. The
    total has the sum of scores over the tasks asked, and the sums over `hallucination` (existence, count, position, color; at most 800),
    `perception` (ten tasks; at most 2000) and `cognition` (four tasks; at most 800), which are NaN unless all of their tasks were asked.

    Args:
        data: `scenes`, questions about drawn scenes (existence, count, position, color); or the official folder, with a folder for
            every task.
        tasks: the tasks; by default all tasks of the data.
        n: the number of scenes.
        split: the split of the scenes (`test`, `counter_prior`).
        seed: seed of the scenes.
        parser: how replies are read, see `interp.bench.parsers`; `mme` is the official rule, the first four characters.
        strict_files: whether a line that cannot be used is an error; otherwise it is left out with a warning.
        longest: the longest reply, in new tokens.

    References: Fu et al., MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models (2023). Differs: no.
    """

    data: str = "scenes"
    tasks: tuple[str, ...] = ()
    n: int = 100
    split: str = "test"
    seed: int = 0
    parser: str = "mme"
    strict_files: bool = False
    longest: int = 16

    headline: ClassVar[tuple[str, ...]] = ("score", "accuracy", "accuracy_plus", "invalid")
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"invalid"})

    def __post_init__(self) -> None:
        """Refuse unknown settings.

        Raises:
            ValueError: an unknown parser or task.
        """
        get_parser(self.parser)
        known = _HALLUCINATION if self.data == "scenes" else _TASKS
        for task in self.tasks:
            if task not in known:
                raise ValueError(f"no task {task!r}{nearest(task, known)}; tasks: {', '.join(known)}")

    def samples(self) -> Sequence[Sample]:
        """Return the questions, task by task, two for every image.

        Raises:
            FileNotFoundError: the folder of a task is missing.
            ValueError: no line can be used.
        """
        if self.data == "scenes":
            asked = scene_questions(load_scenes(self.split, self.n, self.seed), self.seed)
            return [s for task in self.tasks or _HALLUCINATION for s in asked if s.part == task]
        return require_samples(self._loaded(), strict=self.strict_files)

    def problems(self) -> Sequence[str]:
        """Return the lines that could not be used."""
        return () if self.data == "scenes" else self._loaded().problems

    def _loaded(self) -> LoadedSamples:
        root = Path(self.data)
        tasks = self.tasks or tuple(t for t in _TASKS if (root / t).is_dir())
        if not tasks:
            there = ", ".join(sorted(p.name for p in root.iterdir())[:10] if root.is_dir() else ()) or "nothing"
            raise FileNotFoundError(
                f"no task of MME in {root}, which contains {there}; the folders of the tasks are named {', '.join(_TASKS)}"
            )
        loaded = [read_task(root / task, task) for task in tasks]
        return LoadedSamples(tuple(s for x in loaded for s in x.samples), tuple(p for x in loaded for p in x.problems))

    def image(self, sample: Sample) -> Any:
        """Return the image, or the drawn scene."""
        if self.data == "scenes":
            return load_scenes(self.split, self.n, self.seed)[int(sample.image)].image
        return open_image(_pictures(Path(self.data, sample.part)), sample.image)

    def read(self, reply: str, sample: Sample) -> Reading:
        """Return the answer as the parser reads it, and whether the first word is yes or no."""
        return {"said": get_parser(self.parser)(reply, sample.truth["answer"]), "valid": bool(strict(reply))}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return the numbers of questions, correct answers, invalid replies, images, and images with both questions correct."""
        right = [r["said"] == s.truth["answer"] for s, r in group]
        return {
            "questions": float(len(right)),
            "right": float(sum(right)),
            "invalid": float(sum(not r["valid"] for _, r in group)),
            "images": 1.0,
            "both": float(len(right) == 2 and all(right)),
        }

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        """Return accuracy, accuracy_plus, their sum times 100, and the share of invalid replies."""
        accuracy, plus = ratio(counts["right"], counts["questions"]), ratio(counts["both"], counts["images"])
        return {
            "accuracy": accuracy,
            "accuracy_plus": plus,
            "score": np.asarray(100 * (accuracy + plus)),
            "invalid": ratio(counts["invalid"], counts["questions"]),
        }

    def total(self, parts: Mapping[str, Counts]) -> Counts:
        """Return the sums of scores, and the unweighted means of all other scores."""
        names = ("accuracy", "accuracy_plus", "invalid")
        means = {n: np.asarray(np.mean([p[n] for p in parts.values()], axis=0)) for n in names}
        scores = {task: p["score"] for task, p in parts.items()}
        lacking = np.full_like(next(iter(scores.values())), np.nan)
        sums = {n: np.asarray(np.sum([scores.get(t, lacking) for t in tasks], axis=0)) for n, tasks in _SUMS.items()}
        return {"score": np.asarray(np.sum(list(scores.values()), axis=0)), **means, **sums}

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        """Return whether the answer is correct."""
        return {"right": reading["said"] == sample.truth["answer"]}


def read_task(folder: Path, task: str) -> LoadedSamples:
    """Return the questions of one task of the official folder.

    Every image has a text file of the same name, beside it or in `questions_answers_YN` with the images in `images`. Its lines are a
    question, a tab, and Yes or No.

    Raises:
        FileNotFoundError: the folder is missing; names the nearest existing one.
    """
    if not folder.is_dir():
        there = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise FileNotFoundError(f"no folder {folder}{nearest(folder.name, there)}")
    apart = folder / "questions_answers_YN"
    pictures = {p.stem: p.name for p in _pictures(folder).iterdir() if p.suffix.lower() in _PICTURES}
    samples, problems = [], []
    for path in sorted((apart if apart.is_dir() else folder).glob("*.txt")):
        image = pictures.get(path.stem, f"{path.stem}.jpg")
        for i, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            question, tab, answer = line.rpartition("\t")
            truth = answer.strip().lower()
            if tab and truth in ("yes", "no"):
                samples.append(
                    Sample(f"{task}/{path.stem}/{i}", question.strip(), image, {"answer": truth}, task, path.stem)
                )
            elif line.strip():
                problems.append(f"{path}, line {i}: a question, a tab and Yes or No were expected, got {line[:60]!r}")
    return LoadedSamples(tuple(samples), tuple(problems))


def _pictures(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder
