"""The official result files of MME: one per task, with image, question, answer and reply on every line."""

from collections.abc import Iterable
from pathlib import Path

from interp.bench.base import Sample
from interp.data.storage import write_text

AnsweredQuestion = tuple[Sample, str]
"""A question and a reply."""


def write_results(folder: str | Path, answered: Iterable[AnsweredQuestion]) -> list[Path]:
    """Write replies in the format of the official calculation: one file per task, two neighbouring lines per image.

    Tabs and line breaks in questions and replies become blanks.

    Raises:
        ValueError: an image without exactly two questions.
    """
    tasks: dict[str, dict[str, list[AnsweredQuestion]]] = {}
    for sample, reply in answered:
        tasks.setdefault(sample.part, {}).setdefault(sample.group, []).append((sample, reply))
    for task, images in tasks.items():
        for group, both in images.items():
            if len(both) != 2:
                raise ValueError(f"{task}, image {group}: two questions per image were expected, got {len(both)}")
    return [
        write_text(Path(folder, f"{task}.txt"), "".join(_line(*one) for both in images.values() for one in both))
        for task, images in tasks.items()
    ]


def _line(sample: Sample, reply: str) -> str:
    answer = sample.truth["answer"].capitalize()
    fields = (sample.image or sample.group, sample.question, answer, reply)
    return "\t".join(" ".join(f.split()) if i != 3 else _flat(f) for i, f in enumerate(fields)) + "\n"


def _flat(reply: str) -> str:
    """Return a reply on one line; leading blanks stay, because they count among the four characters of the official rule."""
    return reply.replace("\t", " ").replace("\r", " ").replace("\n", " ")


def read_results(path: str | Path) -> list[AnsweredQuestion]:
    """Return the questions and replies of one official result file, whose name is the task; two neighbouring lines are an image.

    A line without four tab-separated fields, or with an answer other than Yes or No, counts as half an image without a question, as in
    the official calculation. Differs: an image with two such lines is left out here, but counted there.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the number of lines is odd.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) % 2:
        raise ValueError(f"{path} has {len(lines)} lines: two per image were expected; the last is {lines[-1][:60]!r}")
    found = []
    for i, line in enumerate(lines):
        fields = line.split("\t")
        if len(fields) == 4 and fields[2].strip().lower() in ("yes", "no"):
            image, question, answer, reply = fields
            truth = {"answer": answer.strip().lower()}
            found.append((Sample(f"{path.stem}/{i}", question, image, truth, path.stem, f"{i // 2}"), reply))
    return found
