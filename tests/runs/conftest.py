"""What tests of runs share: a tiny benchmark, a tiny model, and work in another process."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest

from interp.bench.base import Benchmark, Counts, Reading, Sample
from interp.methods.spear import Spear
from interp.runs.directory import Run
from interp.runs.execution import execute
from interp.runs.spec import RunSpec, build_spec

MORE = ("What?", "What can be seen here, and where?", "Is it there? Say where, and how large it is.")


@final
@dataclass(frozen=True)
class Letters(Benchmark):
    """How many replies hold a letter; two questions about a picture."""

    n: int = 10
    letter: str = "e"
    lost: tuple[str, ...] = ()
    shade: int = 0
    longest: int = 5

    reading: ClassVar[tuple[str, ...]] = ("letter",)
    headline: ClassVar[tuple[str, ...]] = ("held", "length")

    def samples(self) -> Sequence[Sample]:
        return [
            Sample(f"q{i}", MORE[i % 3], f"{i // 2}", {"odd": i % 2}, ("left", "right")[i % 4 // 2], f"g{i // 2}")
            for i in range(self.n)
        ]

    def image(self, sample: Sample) -> Any:
        if sample.image in self.lost:
            raise FileNotFoundError(f"no image {sample.image}")
        shape = (20 + 10 * (int(sample.image) % 2), 24, 3)
        return np.random.default_rng(int(sample.image) + self.shade).integers(0, 255, shape, dtype=np.uint8)

    def read(self, reply: str, sample: Sample) -> Reading:
        return {"held": self.letter in reply, "length": len(reply)}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        return {
            "n": float(len(group)),
            "held": float(sum(r["held"] for _, r in group)),
            "length": float(sum(r["length"] for _, r in group)),
        }

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        return {"held": np.asarray(counts["held"] / counts["n"]), "length": np.asarray(counts["length"] / counts["n"])}

    def outcome(self, sample: Sample, reading: Reading) -> dict[str, bool | float]:
        return {"held": reading["held"], "length": float(reading["length"])}


@pytest.fixture(scope="session")
def letters() -> type[Letters]:
    return Letters


@pytest.fixture
def asked(model_of) -> Callable[..., RunSpec]:
    """Return the function that makes the questions of the tiny benchmark for the tiny model; replies are drawn."""

    def make(benchmark: Letters | None = None, **settings: Any) -> RunSpec:
        options = {"do_sample": True, "temperature": 1.5, **settings.pop("options", {})}
        return build_spec(
            model_of("llava"), benchmark or Letters(), options=options, **{"batch_size": 3, "seed": 7, **settings}
        )

    return make


@pytest.fixture
def forked() -> Callable[..., int]:
    """Return the function that starts work in a child of this process and returns the child's id."""

    def start(work: Callable[[], Any]) -> int:
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        try:
            work()
        except BaseException:  # noqa: BLE001  # the child must not go on as a second pytest
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    return start


@pytest.fixture
def two(asked, letters, tmp_path) -> list[Run]:
    what = asked(letters(n=12))
    return [execute(what, m, tmp_path) for m in (None, Spear(enhance=4.0))]


@pytest.fixture
def answered(model_of, picture):
    model = model_of("llava")
    return model, [model.prepare(picture(seed=i), "What?").with_response([5 + i, 6, 7]) for i in range(3)]
