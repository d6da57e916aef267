"""Questions about a drawn scene that are answered in several steps."""

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
    """What is there, where, and in which order: questions that need an answer in several steps.

    Scores, all in [0, 1]: `steps` the share of right steps, `whole` the share of replies with every step right, `ordered` the
    share that announces all steps in order.

    Args:
        n: how many scenes.
        split: which scenes (`test`, `counter_prior`).
        seed: which of them.
        longest: the longest reply, in new tokens.
    """

    n: int = 100
    split: str = "test"
    seed: int = 0
    longest: int = 120

    reading: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[tuple[str, ...]] = ("steps", "whole", "ordered")

    def samples(self) -> Sequence[Sample]:
        """Return the questions of the scenes that have one."""
        return [
            Sample(f"{i}", q.text, f"{i}", {"answer": q.answer, "steps": list(q.steps)})
            for i, scene in enumerate(load_scenes(self.split, self.n, self.seed))
            for q in scene.questions
            if q.kind == "steps"
        ]

    def image(self, sample: Sample) -> Any:
        """Return the scene, drawn."""
        return load_scenes(self.split, self.n, self.seed)[int(sample.image)].image

    def read(self, reply: str, sample: Sample) -> Reading:
        """Return which steps are right, and whether they come in order."""
        asked = Question("steps", sample.question, sample.truth["answer"], steps=tuple(sample.truth["steps"]))
        right, ordered = steps_in_order(reply, asked)
        return {"right": right, "ordered": ordered}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        """Return steps, right steps, replies, whole and ordered ones."""
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
        """Return whether all is right, and the share of right steps."""
        return {"whole": all(reading["right"]), "steps": sum(reading["right"]) / len(reading["right"])}
