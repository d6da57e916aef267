"""Steps: questions about a drawn scene that need an answer in several steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from interp.bench._scenes import load_scenes
from interp.bench.base import Benchmark, Counts, Reading, Sample, ratio
from interp.world.questions import Question
from interp.world.scoring import steps_in_order


@final
@dataclass(frozen=True)
class Steps(Benchmark):
    """Questions about which objects a scene has, where they are and in which order, answered in several steps.

    Scores, all in [0, 1]: `steps` the share of correct steps, `whole` the share of replies with every step correct, `ordered` the
    share of replies that announce all steps in order.

    Args:
        n: the number of scenes.
        split: the split of the scenes (`test`, `counter_prior`).
        seed: seed of the scenes.
        longest: the longest reply, in new tokens.
    """

    n: int = 100
    split: str = "test"
    seed: int = 0
    longest: int = 120

    reading: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[tuple[str, ...]] = ("steps", "whole", "ordered")

    def samples(self) -> Sequence[Sample]:
        """Return the question of every scene that has one."""
        return [
            Sample(f"{i}", q.text, f"{i}", {"answer": q.answer, "steps": list(q.steps)})
            for i, scene in enumerate(load_scenes(self.split, self.n, self.seed))
            for q in scene.questions
            if q.kind == "steps"
        ]

    def image(self, sample: Sample) -> Any:
        """Return the drawn scene."""
        return load_scenes(self.split, self.n, self.seed)[int(sample.image)].image

    def read(self, reply: str, sample: Sample) -> Reading:
        """Return which steps are correct, and whether they are announced in order."""
        asked = Question("steps", sample.question, sample.truth["answer"], steps=tuple(sample.truth["steps"]))
        right, ordered = steps_in_order(reply, asked)
        return {"right": right, "ordered": ordered}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return the numbers of steps, correct steps, replies, fully correct replies, and ordered replies."""
        read = [r for _, r in group]
        return {
            "steps": float(sum(len(r["right"]) for r in read)),
            "right": float(sum(sum(r["right"]) for r in read)),
            "replies": float(len(read)),
            "whole": float(sum(all(r["right"]) for r in read)),
            "ordered": float(sum(r["ordered"] for r in read)),
        }

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        """Return the shares."""
        return {
            "steps": ratio(counts["right"], counts["steps"]),
            "whole": ratio(counts["whole"], counts["replies"]),
            "ordered": ratio(counts["ordered"], counts["replies"]),
        }

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        """Return whether all steps are correct, and the share of correct steps."""
        return {"whole": all(reading["right"]), "steps": sum(reading["right"]) / len(reading["right"])}
